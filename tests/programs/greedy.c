/* Takes all it can of what its argument names, and prints the errno that ended that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char block[65536];

static unsigned files(void) {
    unsigned n = 0;
    while (open("notes.txt", O_RDONLY) >= 0) n++;
    return n;
}

static unsigned disk(void) {
    unsigned n = 0;
    int fd = open("big", O_CREAT | O_WRONLY, 0666);
    while (write(fd, block, sizeof block) > 0) n++;
    return n;
}

static unsigned names(void) {
    unsigned n = 0;
    char name[32];
    for (;; n++) {
        snprintf(name, sizeof name, "many-%u", n);
        int fd = open(name, O_CREAT | O_WRONLY, 0666);
        if (fd < 0) return n;
        close(fd);
    }
}

static unsigned memory(void) {
    unsigned n = 0;
    for (char *volatile p; (p = malloc(1 << 20)); n++) memset(p, 1, 1 << 20);
    return n;
}

static unsigned depth(void) {
    unsigned n = 0;
    while (!mkdir("deeper", 0777) && !chdir("deeper")) n++;
    return n;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    unsigned (*take)(void) = !strcmp(what, "files")    ? files
                             : !strcmp(what, "disk")   ? disk
                             : !strcmp(what, "names")  ? names
                             : !strcmp(what, "memory") ? memory
                             : !strcmp(what, "depth")  ? depth
                                                       : 0;
    if (!take) return 2;
    unsigned n = take();
    printf("%s %d\n", n > 3 ? "some" : "none", errno);
    return 0;
}
