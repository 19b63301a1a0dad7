/* What a check is made of. A check runs in a process and a directory of its own, and returns when it holds. */

#ifndef CHECK_H
#define CHECK_H

#include <errno.h>

struct check {
	const char *name;
	void (*run)(void);
};

extern const struct check checks[]; /* ends with a name that is NULL */
extern const struct check shared_checks[];
extern const struct check only_read_checks[];

/* Where the same tree is mounted a second time, by a connection of its own; the check's own directory there. */
extern char other_mount[512];

/* Says what did not hold, and ends the check. `number` is an errno, or 0. */
void fail(int line, const char *what, int number);

/* `expression` is true. */
#define HOLDS(expression) ((expression) ? (void)0 : fail(__LINE__, #expression, 0))
/* A system call that succeeds; its result. */
#define MUST(call) must(__LINE__, #call, (long)(call))
/* A system call that fails with just this errno. */
#define FAILS(call, number) fails(__LINE__, #call, (long)(call), number)

long must(int line, const char *what, long result);
void fails(int line, const char *what, long result, int number);

#endif
