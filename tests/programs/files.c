/* Exercises a C library's files below its working directory. Prints what is wrong; "ok" if nothing is. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int wrong;
#define CHECK(what) ((what) ? 0 : (printf("line %d: %s (%s)\n", __LINE__, #what, strerror(errno)), wrong++))
#define FAILS(what, number) (errno = 0, CHECK((what) < 0 && errno == (number)))

static int entries(const char *path, char *out) {
    DIR *d = opendir(path);
    struct dirent *e;
    int n = 0;
    *out = 0;
    if (!d) return -1;
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        strcat(strcat(out, e->d_name), e->d_type == DT_DIR ? "/ " : " ");
        n++;
    }
    closedir(d);
    return n;
}

static void stdio(void) {
    char line[64];
    FILE *f = fopen("new.txt", "w+");
    CHECK(f != 0);
    if (!f) return;
    CHECK(fprintf(f, "%s %d\n", "line", 1) == 7);
    CHECK(fputs("line 2\nline 3\n", f) >= 0);
    rewind(f);
    CHECK(fgets(line, sizeof line, f) && !strcmp(line, "line 1\n"));
    CHECK(ftell(f) == 7);
    CHECK(fseek(f, -7, SEEK_END) == 0 && fgets(line, sizeof line, f) && !strcmp(line, "line 3\n"));
    CHECK(fgetc(f) == EOF && feof(f));
    CHECK(fseek(f, 5, SEEK_SET) == 0 && fputc('X', f) == 'X');
    CHECK(fclose(f) == 0);
    f = fopen("new.txt", "a");
    CHECK(f && fputs("more\n", f) >= 0 && ftell(f) == 26 && fclose(f) == 0);
    f = fopen("new.txt", "r");
    int a = 0;
    CHECK(f && fscanf(f, "line X\nline %d", &a) == 1 && a == 2 && fclose(f) == 0);
    CHECK(fopen("new.txt", "wx") == 0 && errno == EEXIST);
    CHECK(fopen("none/new.txt", "w") == 0 && errno == ENOENT);
    CHECK(freopen("new.txt", "r", stdin) && getchar() == 'l');
}

static void directories(void) {
    char names[512];
    CHECK(mkdir("d", 0777) == 0);
    FAILS(mkdir("d", 0777), EEXIST);
    CHECK(mkdir("d/e", 0777) == 0);
    CHECK(close(open("d/f", O_CREAT | O_WRONLY | O_EXCL, 0666)) == 0);
    CHECK(entries("d", names) == 2 && strstr(names, "e/ ") && strstr(names, "f "));
    FAILS(rmdir("d"), ENOTEMPTY);
    FAILS(unlink("d/e"), EISDIR);
    FAILS(rmdir("d/f"), ENOTDIR);
    CHECK(rename("d/f", "d/e/g") == 0);
    FAILS(rename("d/f", "x"), ENOENT);
    CHECK(entries("d/e", names) == 1 && !strcmp(names, "g "));
    CHECK(unlink("d/e/g") == 0 && rmdir("d/e") == 0 && rmdir("d") == 0);
    FAILS(unlink("d/e/g"), ENOENT);
    CHECK(mkdir("many", 0777) == 0);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/file-%d", i);
        CHECK(close(open(name, O_CREAT | O_WRONLY, 0666)) == 0);
    }
    DIR *d = opendir("many");
    int n = 0;
    while (d && readdir(d)) n++;
    CHECK(n == 302);
    rewinddir(d);
    CHECK(readdir(d) && !closedir(d));
}

static void attributes(void) {
    struct stat a, b;
    CHECK(stat("new.txt", &a) == 0 && S_ISREG(a.st_mode) && a.st_size == 26);
    CHECK(stat(".", &b) == 0 && S_ISDIR(b.st_mode) && b.st_ino != a.st_ino);
    int fd = open("new.txt", O_RDWR);
    CHECK(fstat(fd, &b) == 0 && b.st_ino == a.st_ino && b.st_dev == a.st_dev);
    CHECK(ftruncate(fd, 4) == 0 && fstat(fd, &b) == 0 && b.st_size == 4);
    CHECK(posix_fallocate(fd, 0, 10) == 0 && lseek(fd, 0, SEEK_END) == 10);
    CHECK(pwrite(fd, "LINE", 4, 0) == 4);
    char text[8] = "";
    CHECK(pread(fd, text, 4, 0) == 4 && !strcmp(text, "LINE"));
    CHECK(lseek(fd, 0, SEEK_CUR) == 10);
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    CHECK(futimens(fd, times) == 0 && fstat(fd, &b) == 0 && b.st_mtim.tv_sec == 2000 && b.st_mtim.tv_nsec == 7);
    CHECK(close(fd) == 0);
    FAILS(close(fd), EBADF);
    FAILS(stat("nothing", &a), ENOENT);
    CHECK(access("new.txt", R_OK) == 0);
}

static void links(void) {
    char target[64] = "";
    struct stat a;
    CHECK(symlink("new.txt", "link") == 0);
    CHECK(readlink("link", target, sizeof target) == 7 && !strcmp(target, "new.txt"));
    CHECK(lstat("link", &a) == 0 && S_ISLNK(a.st_mode));
    CHECK(stat("link", &a) == 0 && S_ISREG(a.st_mode));
    FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    FAILS(symlink("/etc/passwd", "out"), EPERM);
    CHECK(symlink("../../../etc/passwd", "out") == 0);
    FAILS(open("out", O_RDONLY), EPERM);
    CHECK(unlink("out") == 0 && unlink("link") == 0);
}

static void paths(const char *here) {
    char path[256];
    struct stat a;
    snprintf(path, sizeof path, "%s/new.txt", here);
    CHECK(stat(path, &a) == 0 && a.st_size == 10);
    CHECK(stat("./new.txt", &a) == 0 && stat("many/../new.txt", &a) == 0);
    CHECK(chdir("many") == 0);
    CHECK(stat("file-7", &a) == 0);
    CHECK(chdir("..") == 0 && stat("new.txt", &a) == 0);
    CHECK(chdir(here) == 0 && stat("many/file-7", &a) == 0);
    FAILS(chdir("nothing"), ENOENT);
    FAILS(open("/etc/passwd", O_RDONLY), ENOENT);
    FAILS(open("/", O_RDONLY | O_CREAT, 0666), EISDIR);
}

int main(int argc, char **argv) {
    stdio();
    directories();
    attributes();
    links();
    if (argc > 1) paths(argv[1]);
    if (!wrong) puts("ok");
    return wrong;
}
