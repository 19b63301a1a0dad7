/* Copies files, or standard input, to standard output with read(2) and write(2). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char buffer[65536];

static int copy(int from) {
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(1, buffer + done, n - done)) < 0) return -1;
    return n;
}

int main(int argc, char **argv) {
    int bad = 0;
    if (argc < 2 && copy(0) < 0) { perror("cat"); return 1; }
    for (int i = 1; i < argc; i++) {
        int fd = open(argv[i], O_RDONLY);
        if (fd < 0 || copy(fd) < 0) { fprintf(stderr, "cat: %s: %s\n", argv[i], strerror(errno)); bad = 1; }
        if (fd >= 0) close(fd);
    }
    return bad;
}
