/* Makes the calls that a script on its input names, one a line, and prints each one's errno and result.

   Words: the name of a function of WASI preview 1, then its arguments. Numbers are as they are (0x too); a path or text
   is a word, in which %XX is a byte, and one of "%" alone is empty. Descriptors that path_open made are meant by number.
   What a call gives back is printed behind its errno. Lengths, pointers and results are this program's matter. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

static char line[8192], text[4096], other[4096], block[65536];

static char *word(void) {
    char *w = strtok(0, " \n");
    return w ? w : "";
}

static uint64_t num(void) {
    char *w = word();
    return *w == '-' ? (uint64_t)strtoll(w, 0, 0) : strtoull(w, 0, 0);
}

static const char *str(char *out) {
    char *w = word(), *o = out;
    for (; *w; w++) {
        if (*w != '%') *o++ = *w;
        else if (w[1] && w[2]) {
            char hex[3] = {w[1], w[2], 0};
            *o++ = (char)strtol(hex, 0, 16);
            w += 2;
        }
    }
    *o = 0;
    return out;
}

static void show(const char *data, size_t size) {
    putchar(' ');
    for (size_t i = 0; i < size; i++) {
        unsigned char c = data[i];
        if (c > ' ' && c < 127 && c != '%') putchar(c);
        else printf("%%%02x", c);
    }
}

static void stat_of(__wasi_errno_t e, const __wasi_filestat_t *s, int times) {
    if (e) return;
    printf(" type %d size %lld links %lld", s->filetype, s->filetype == 4 || s->filetype == 7 ? (long long)s->size : 0LL,
           s->filetype == 4 ? (long long)s->nlink : 0LL);
    if (times) printf(" %llu %llu", (unsigned long long)s->atim, (unsigned long long)s->mtim);
}

static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

/* The whole directory in pieces of `size` bytes; names in order, for servers list in any. */
static __wasi_errno_t list(__wasi_fd_t fd, size_t size) {
    static char names[256][300], *order[256];
    __wasi_dircookie_t cookie = 0;
    int count = 0;
    for (;;) {
        __wasi_size_t got;
        __wasi_errno_t e = __wasi_fd_readdir(fd, (uint8_t *)block, size, cookie, &got);
        if (e) return e;
        size_t at = 0;
        int whole = 0;
        while (at + sizeof(__wasi_dirent_t) <= got && count < 256) {
            __wasi_dirent_t d;
            memcpy(&d, block + at, sizeof d);
            if (at + sizeof d + d.d_namlen > got) break;
            snprintf(names[count], 300, "%.*s/%d", (int)d.d_namlen, block + at + sizeof d, d.d_type);
            order[count] = names[count];
            count++;
            whole = 1;
            at += sizeof d + d.d_namlen;
            cookie = d.d_next;
        }
        if (got < size || !whole) break;
    }
    qsort(order, count, sizeof *order, compare);
    printf(" [");
    for (int i = 0; i < count; i++) printf("%s%s", i ? " " : "", order[i]);
    printf("]");
    return 0;
}

#define IS(name) (!strcmp(call, name))

static __wasi_errno_t path_call(const char *call) {
    __wasi_fd_t fd = num(), made;
    __wasi_filestat_t stat;
    __wasi_errno_t e;
    if (IS("path_open")) {
        uint32_t lookup = num();
        const char *path = str(text);
        uint32_t oflags = num();
        uint64_t rights = num(), inheriting = num();
        e = __wasi_path_open(fd, lookup, path, oflags, rights, inheriting, num(), &made);
        if (!e) printf(" fd %u", made);
        return e;
    }
    if (IS("path_filestat_get")) {
        uint32_t lookup = num();
        e = __wasi_path_filestat_get(fd, lookup, str(text), &stat);
        stat_of(e, &stat, 0);
        return e;
    }
    if (IS("path_filestat_set_times")) {
        uint32_t lookup = num();
        const char *path = str(text);
        uint64_t atime = num(), mtime = num();
        e = __wasi_path_filestat_set_times(fd, lookup, path, atime, mtime, num());
        if (!e && !__wasi_path_filestat_get(fd, lookup, path, &stat)) stat_of(0, &stat, atime < 1u << 30);
        return e;
    }
    if (IS("path_readlink")) {
        __wasi_size_t got = 0;
        const char *path = str(text);
        e = __wasi_path_readlink(fd, path, (uint8_t *)block, num(), &got);
        if (!e) show(block, got);
        return e;
    }
    if (IS("path_link")) {
        uint32_t lookup = num();
        const char *path = str(text);
        __wasi_fd_t to = num();
        return __wasi_path_link(fd, lookup, path, to, str(other));
    }
    const char *path = str(text);
    if (IS("path_create_directory")) return __wasi_path_create_directory(fd, path);
    if (IS("path_remove_directory")) return __wasi_path_remove_directory(fd, path);
    if (IS("path_unlink_file")) return __wasi_path_unlink_file(fd, path);
    if (IS("path_symlink")) return __wasi_path_symlink(path, fd, str(other)); /* fd, target, path */
    __wasi_fd_t to = num();
    return __wasi_path_rename(fd, path, to, str(other));
}

static __wasi_errno_t fd_call(const char *call) {
    __wasi_fd_t fd = num();
    __wasi_filestat_t stat;
    __wasi_fdstat_t fdstat;
    __wasi_size_t got = 0;
    __wasi_filesize_t at = 0;
    __wasi_errno_t e;
    if (IS("fd_read") || IS("fd_pread")) {
        /* One buffer: Wasmtime fills or takes but one at a call, as it may. */
        __wasi_iovec_t part = {(uint8_t *)block, num()};
        e = IS("fd_read") ? __wasi_fd_read(fd, &part, 1, &got) : __wasi_fd_pread(fd, &part, 1, num(), &got);
        if (!e) show(block, got);
        return e;
    }
    if (IS("fd_write") || IS("fd_pwrite")) {
        const char *data = str(text);
        __wasi_ciovec_t part = {(uint8_t *)data, strlen(data)};
        e = IS("fd_write") ? __wasi_fd_write(fd, &part, 1, &got) : __wasi_fd_pwrite(fd, &part, 1, num(), &got);
        if (!e) printf(" %u", (unsigned)got);
        return e;
    }
    if (IS("fd_readdir")) return list(fd, num());
    if (IS("fd_seek")) {
        int64_t offset = (int64_t)num();
        e = __wasi_fd_seek(fd, offset, num(), &at);
        if (!e) printf(" %llu", (unsigned long long)at);
        return e;
    }
    if (IS("fd_tell")) {
        e = __wasi_fd_tell(fd, &at);
        if (!e) printf(" %llu", (unsigned long long)at);
        return e;
    }
    if (IS("fd_filestat_get")) {
        e = __wasi_fd_filestat_get(fd, &stat);
        stat_of(e, &stat, 0);
        return e;
    }
    if (IS("fd_fdstat_get")) {
        e = __wasi_fd_fdstat_get(fd, &fdstat);
        if (!e) printf(" type %d flags %d", fdstat.fs_filetype, fdstat.fs_flags);
        return e;
    }
    if (IS("fd_filestat_set_times")) {
        uint64_t atime = num(), mtime = num();
        e = __wasi_fd_filestat_set_times(fd, atime, mtime, num());
        if (!e && !__wasi_fd_filestat_get(fd, &stat)) stat_of(0, &stat, atime < 1u << 30);
        return e;
    }
    if (IS("fd_prestat_get")) {
        __wasi_prestat_t found;
        e = __wasi_fd_prestat_get(fd, &found);
        if (!e) printf(" length %u", (unsigned)found.u.dir.pr_name_len);
        return e;
    }
    if (IS("fd_prestat_dir_name")) {
        size_t size = num();
        e = __wasi_fd_prestat_dir_name(fd, (uint8_t *)block, size);
        if (!e) show(block, size);
        return e;
    }
    if (IS("fd_close")) return __wasi_fd_close(fd);
    if (IS("fd_sync")) return __wasi_fd_sync(fd);
    if (IS("fd_datasync")) return __wasi_fd_datasync(fd);
    if (IS("fd_fdstat_set_flags")) return __wasi_fd_fdstat_set_flags(fd, num());
    if (IS("fd_filestat_set_size")) return __wasi_fd_filestat_set_size(fd, num());
    uint64_t first = num();
    if (IS("fd_renumber")) return __wasi_fd_renumber(fd, first);
    if (IS("fd_allocate")) return __wasi_fd_allocate(fd, first, num());
    uint64_t second = num();
    if (IS("fd_advise")) return __wasi_fd_advise(fd, first, second, num());
    exit(2);
}

int main(void) {
    while (fgets(line, sizeof line, stdin)) {
        const char *call = strtok(line, " \n");
        if (!call) continue;
        __wasi_errno_t e = !strncmp(call, "path_", 5) ? path_call(call) : fd_call(call);
        printf(" = %d\n", e);
    }
    return 0;
}
