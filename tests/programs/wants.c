/* Does what its arguments say, each a letter and a path, and prints what came of it, a line for each:
   r read, w write (made if it is not there), o overwrite (must be there), x make anew, s stat, l list, m make a directory,
   p look whether there is something to be read on the input, i read it, both with any path;
   c speak: open, read, and write the lines that the next argument is, which `;` parts.
   An `@` before a path keeps it from being taken for one where the program is started. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char text[4096];

static int use(const char *path, int flags) {
    int fd = open(path, flags, 0644);
    if (fd < 0) return -1;
    ssize_t n = (flags & O_ACCMODE) == O_RDONLY ? read(fd, text, sizeof text - 1) : write(fd, "new", 3);
    if (n >= 0 && (flags & O_ACCMODE) == O_RDONLY) text[n] = 0;
    close(fd);
    return n < 0 ? -1 : 0;
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;
    if (!directory) return -1;
    while ((entry = readdir(directory)))
        if (entry->d_name[0] != '.') strcat(strcat(text, entry->d_name), " ");
    return closedir(directory);
}

static int speak(const char *path, const char *lines) {
    int fd = open(path, O_RDWR);
    if (fd < 0) return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n >= 0) text[n] = 0;
    while (n >= 0 && *lines) {
        const char *end = strchr(lines, ';');
        size_t size = end ? (size_t)(end - lines) : strlen(lines);
        n = write(fd, lines, size);
        lines += size + (end != NULL);
    }
    return n < 0 ? -1 : 0; /* and stays open */
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *path = argv[i + 1] + (argv[i + 1][0] == '@');
        struct stat about;
        int bad;
        const char *letter = argv[i];
        text[0] = 0;
        switch (argv[i][0]) {
        case 'r': bad = use(path, O_RDONLY); break;
        case 'w': bad = use(path, O_WRONLY | O_CREAT | O_TRUNC); break;
        case 'o': bad = use(path, O_WRONLY | O_TRUNC); break;
        case 'x': bad = use(path, O_WRONLY | O_CREAT | O_EXCL); break;
        case 's': bad = stat(path, &about); break;
        case 'l': bad = list(path); break;
        case 'p': bad = poll(&(struct pollfd){0, POLLIN, 0}, 1, 0) < 0; break;
        case 'i': bad = read(0, text, sizeof text - 1) < 0; break;
        case 'm': bad = mkdir(path, 0755); break;
        case 'c': bad = speak(path, argv[i + 2]); i++; break;
        default: return 2;
        }
        printf("%s: %s\n", letter, bad ? strerror(errno) : text[0] ? text : "ok");
        fflush(stdout);
    }
    return 0;
}
