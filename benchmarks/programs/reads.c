/* reads FILE COUNT: read the first byte of FILE that often, one system call each. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int file = open(argv[1], O_RDONLY);
    char byte;

    if (file < 0) return 2;
    for (long left = atol(argv[2]); left > 0; left--)
        if (pread(file, &byte, 1, 0) != 1) return 3;
    return 0;
}
