/* show --file=PATH: copies a file to the output. Its path is part of an option, so that typing it grants nothing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const char option[] = "--file=";
    static char buffer[4096];
    size_t got;

    if (argc != 2 || strncmp(argv[1], option, sizeof option - 1) != 0) {
        fprintf(stderr, "usage: show --file=PATH\n");
        return 2;
    }
    const char *path = argv[1] + sizeof option - 1;
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        fprintf(stderr, "show: %s: %s\n", path, strerror(errno));
        return 1;
    }
    while ((got = fread(buffer, 1, sizeof buffer, in)) > 0)
        fwrite(buffer, 1, got, stdout);
    if (ferror(in)) {
        fprintf(stderr, "show: %s: %s\n", path, strerror(errno));
        return 1;
    }
    return 0;
}
