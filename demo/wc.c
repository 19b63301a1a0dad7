/* wc FILE...: lines, words and bytes of each, as wc(1) counts them; "-" is the standard input. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int count(FILE *in, const char *name)
{
    static char buffer[1 << 16];
    unsigned long lines = 0, words = 0, bytes = 0;
    int inside = 0;
    size_t got;

    while ((got = fread(buffer, 1, sizeof buffer, in)) > 0) {
        bytes += got;
        for (size_t i = 0; i < got; i++) {
            int space = isspace((unsigned char)buffer[i]) != 0;
            lines += buffer[i] == '\n';
            words += inside && space;
            inside = !space;
        }
    }
    if (ferror(in)) {
        fprintf(stderr, "wc: %s: %s\n", name, strerror(errno));
        return 1;
    }
    printf("%lu %lu %lu %s\n", lines, words + inside, bytes, name);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    int status = 0;

    for (int i = 1; i < argc; i++) {
        FILE *in = strcmp(argv[i], "-") == 0 ? stdin : fopen(argv[i], "rb");
        if (in == NULL) {
            fprintf(stderr, "wc: %s: %s\n", argv[i], strerror(errno));
            status = 1;
            continue;
        }
        status |= count(in, argv[i]);
        if (in != stdin)
            fclose(in);
    }
    return status;
}
