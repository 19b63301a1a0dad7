/* Lines, words and bytes of files, or of standard input, as wc(1). */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>

static int count(FILE *f, const char *name) {
    long lines = 0, words = 0, bytes = 0;
    int c, in = 0;
    while ((c = getc(f)) != EOF) {
        bytes++;
        lines += c == '\n';
        if (isspace(c)) in = 0;
        else if (!in) { in = 1; words++; }
    }
    if (ferror(f)) { fprintf(stderr, "wc: %s: %s\n", name, strerror(errno)); return 1; }
    printf("%ld %ld %ld%s%s\n", lines, words, bytes, *name ? " " : "", name);
    return 0;
}

int main(int argc, char **argv) {
    int bad = 0;
    if (argc < 2) return count(stdin, "");
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "r");
        if (!f) { fprintf(stderr, "wc: %s: %s\n", argv[i], strerror(errno)); bad = 1; continue; }
        bad |= count(f, argv[i]);
        fclose(f);
    }
    return bad;
}
