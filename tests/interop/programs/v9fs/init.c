/* The only program of a machine that is nothing but a 9P client: Linux starts it as its first process.
 *
 * It loads the modules in /modules in the order of their names, sets up the network that QEMU makes (10.0.2.15, the
 * host is 10.0.2.2), mounts what the host serves in each dialect, does the checks there, and switches the machine off.
 * A line is written for each: `RESULT MOUNT CHECK ok`, or `RESULT MOUNT CHECK errno N: line L: WHAT`.
 *
 * From the kernel's command line, as environment: `served` and `listened`, ports of the host; `token`, to attach to
 * the latter; `mount` and `check`, if only these are wanted.
 */

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define EACH_SECONDS 180

char other_mount[512];
static const char *mounted, *checking;

void fail(int line, const char *what, int number)
{
	printf("RESULT %s %s errno %d: line %d: %s\n", mounted, checking, number, line, what);
	fflush(stdout);
	_exit(1);
}

long must(int line, const char *what, long result)
{
	if (result < 0)
		fail(line, what, errno);
	return result;
}

void fails(int line, const char *what, long result, int number)
{
	if (result >= 0)
		fail(line, what, 0);
	if (errno != number)
		fail(line, what, errno);
}

/* Whoever hangs is told of as ETIMEDOUT. Its children go with it. */
static void too_long(int signal)
{
	(void)signal;
	kill(0, SIGKILL);
}

/* `in_own`: in a directory made for it. */
static void check_one(const char *at, const struct check *check, int in_own)
{
	int status;
	char path[256];

	checking = check->name;
	/* The mounts are of one tree: each has names of its own there. */
	snprintf(path, sizeof path, "%s/%s-%s", at, mounted, check->name);
	snprintf(other_mount, sizeof other_mount, "/other/%s-%s", mounted, check->name);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		signal(SIGALRM, too_long);
		alarm(EACH_SECONDS);
		if (in_own) {
			MUST(mkdir(path, 0755));
			MUST(chdir(path));
		} else {
			MUST(chdir(at));
		}
		check->run();
		printf("RESULT %s %s ok\n", mounted, check->name);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	kill(-pid, SIGKILL);
	if (WIFSIGNALED(status))
		printf("RESULT %s %s errno %d: ended by signal %d\n", mounted, check->name, ETIMEDOUT, WTERMSIG(status));
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int mount_9p(const char *at, const char *port, const char *version, const char *more)
{
	char options[512];

	mkdir(at, 0755);
	snprintf(options, sizeof options, "trans=tcp,port=%s,version=%s,uname=root,msize=65536,%s", port, version, more);
	return mount("10.0.2.2", at, "9p", 0, options);
}

static void check_all(const char *name, const char *port, const char *version, const char *more,
		      const struct check *each_all)
{
	char at[64];

	const char *only = getenv("mount"), *one = getenv("check");

	if (only != NULL && strcmp(only, name) != 0)
		return;
	mounted = name;
	checking = "mount";
	snprintf(at, sizeof at, "/mnt/%s", name);
	if (mount_9p(at, port, version, more) < 0) {
		printf("RESULT %s mount errno %d: %s\n", name, errno, strerror(errno));
		return;
	}
	printf("RESULT %s mount ok\n", name);
	for (const struct check *each = each_all; each->name != NULL; each++) {
		if (one == NULL || strcmp(one, each->name) == 0)
			check_one(at, each, each_all != only_read_checks);
	}
	printf("RESULT %s unmount %s\n", name, umount(at) < 0 ? strerror(errno) : "ok");
	fflush(stdout);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void load_modules(void)
{
	struct dirent **found;
	int count = scandir("/modules", &found, is_file, by_name);

	for (int i = 0; i < count; i++) {
		char path[300];
		snprintf(path, sizeof path, "/modules/%s", found[i]->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			printf("module %s: %s\n", path, strerror(errno));
		close(fd);
	}
}

static void set_address(struct sockaddr *at, const char *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)at;

	memset(in, 0, sizeof *in);
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
}

static int up(int fd, const char *name, const char *address)
{
	struct ifreq wanted = {0};

	snprintf(wanted.ifr_name, sizeof wanted.ifr_name, "%s", name);
	set_address(&wanted.ifr_addr, address);
	if (ioctl(fd, SIOCSIFADDR, &wanted) < 0)
		return -1;
	set_address(&wanted.ifr_netmask, "255.255.255.0");
	if (ioctl(fd, SIOCSIFNETMASK, &wanted) < 0)
		return -1;
	wanted.ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &wanted);
}

static void make_places(void)
{
	static const char *const places[] = {"/dev", "/proc", "/sys", "/mnt", "/other", "/tmp"};

	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		mkdir(places[i], 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, "");
	mount("proc", "/proc", "proc", 0, "");
	mount("tmpfs", "/tmp", "tmpfs", 0, "");
}

int main(void)
{
	const char *served = getenv("served"), *listened = getenv("listened"), *token = getenv("token");
	char aname[256];

	make_places();
	int console = open("/dev/console", O_RDWR);
	for (int fd = 0; fd < 3 && console >= 0; fd++)
		dup2(console, fd);
	load_modules();
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (up(fd, "lo", "127.0.0.1") < 0 || up(fd, "eth0", "10.0.2.15") < 0)
		printf("network: %s\n", strerror(errno));
	close(fd);
	mount_9p("/other", served, "9p2000.L", "cache=none");
	check_all("9P2000", served, "9p2000", "cache=none", checks);
	check_all("9P2000.u", served, "9p2000.u", "cache=none", checks);
	check_all("9P2000.L", served, "9p2000.L", "cache=none", checks);
	check_all("mapped", served, "9p2000.L", "cache=mmap", shared_checks);
	check_all("loose", served, "9p2000.L", "cache=loose", shared_checks);
	snprintf(aname, sizeof aname, "cache=none,aname=%s", token);
	check_all("listened", listened, "9p2000.L", aname, only_read_checks);
	check_all("guessed", listened, "9p2000.L", "cache=none,aname=guessed", only_read_checks);
	umount("/other");
	printf("RESULT all done ok\n");
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
