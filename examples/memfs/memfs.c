// memfs: a file server in memory, as a program. It speaks 9P2000 on its standard input and output until the input ends.
//
//     scripts/cc -o memfs.wasm examples/memfs/memfs.c
//     cognu% run --serve mem memfs.wasm
//     cognu% mount /srv/mem /mnt/mem
//
// Messages are those of the Plan 9 manual, section 5. One request is answered after the other, so there is never one
// under way that a Tflush could end. Everybody may do everything: who gets here is the mounting side's affair.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MSIZE = 65536 + 24, HEADER = 7, IOHDR = 24, LEAST = 256, MOST_FILE = 16 << 20, MOST_NAMES = 16, NAMELEN = 255 };
enum {
    Tversion = 100, Tauth = 102, Tattach = 104, Rerror = 107, Tflush = 108, Twalk = 110, Topen = 112, Tcreate = 114,
    Tread = 116, Twrite = 118, Tclunk = 120, Tremove = 122, Tstat = 124, Twstat = 126
};
enum { OREAD, OWRITE, ORDWR, OEXEC, OTRUNC = 0x10, ORCLOSE = 0x40, CLOSED = -1 };
#define DMDIR 0x80000000u
#define DMAPPEND 0x40000000u
#define DMEXCL 0x20000000u
#define UNTOUCHED 0xffffffffu
#define UNTOUCHED8 0xffffffffffffffffull

struct file {
    struct file *above, *first, *next;  // `first` is the newest entry of a directory
    char name[NAMELEN + 1], user[NAMELEN + 1];
    uint64_t path, size;
    uint32_t version, mode, mtime;
    uint8_t *data;
    int uses, opens, gone;  // fids on it; those that are open; taken out of its directory
};

struct fid {
    struct fid *next;
    uint32_t number;
    struct file *file;
    int mode;
    uint8_t *listing;  // of an open directory: all its stats, as they were at the last read from its start
    uint32_t length;
};

static uint8_t in[MSIZE], out[MSIZE];
static uint32_t msize = MSIZE, used;
static struct file root = {.name = "/", .user = "none", .mode = DMDIR | 0777};
static struct fid *fids;
static uint64_t paths;
static const char *refusal;  // set by whatever goes wrong in a request

// -- the request at hand ----------------------------------------------------------------------------------------------

static uint8_t *at, *end;

static uint64_t get(int bytes) {
    uint64_t value = 0;
    if (end - at < bytes) { refusal = "bad 9P message"; at = end; return 0; }
    for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << 8 * i;
    at += bytes;
    return value;
}

// A text of at most NAMELEN bytes; an empty one if it is none.
static const char *text(char *into) {
    uint32_t size = get(2);
    into[0] = 0;
    if ((uint32_t)(end - at) < size) { refusal = "bad 9P message"; at = end; return into; }
    if (size > NAMELEN || memchr(at, 0, size)) refusal = "file name too long";
    else memcpy(into, at, size), into[size] = 0;
    at += size;
    return into;
}

// -- the reply --------------------------------------------------------------------------------------------------------

static void put(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) out[used++] = value >> 8 * i;
}

static void put_text(const char *string) {
    uint32_t size = strlen(string);
    put(size, 2);
    memcpy(out + used, string, size);
    used += size;
}

static void put_qid(const struct file *file) {
    put(file->mode >> 24, 1), put(file->version, 4), put(file->path, 8);
}

static uint32_t stat_size(const struct file *file) {
    return 2 + 39 + 8 + strlen(file->name) + 3 * strlen(file->user);
}

static void put_stat(const struct file *file) {
    put(stat_size(file) - 2, 2), put(0, 2), put(0, 4), put_qid(file), put(file->mode, 4);
    put(file->mtime, 4), put(file->mtime, 4), put(file->mode & DMDIR ? 0 : file->size, 8);
    put_text(file->name), put_text(file->user), put_text(file->user), put_text(file->user);
}

// -- files and fids ---------------------------------------------------------------------------------------------------

static int is_directory(const struct file *file) { return file->mode & DMDIR ? 1 : 0; }

static void touch(struct file *file) { file->version++, file->mtime = time(NULL); }

static void release(struct file *file) {
    if (--file->uses > 0 || !file->gone) return;
    free(file->data);
    free(file);
}

static struct file *find(const struct file *directory, const char *name) {
    for (struct file *file = directory->first; file; file = file->next)
        if (!strcmp(file->name, name)) return file;
    return NULL;
}

static void take_out(struct file *file) {
    struct file **link = &file->above->first;
    while (*link != file) link = &(*link)->next;
    *link = file->next;
    touch(file->above);
    file->gone = 1;
    file->uses++, release(file);  // it is freed now if no fid is on it
}

static struct fid *lookup(uint32_t number) {
    for (struct fid *fid = fids; fid; fid = fid->next)
        if (fid->number == number) return fid;
    return NULL;
}

static struct fid *the_fid(void) {
    struct fid *fid = lookup(get(4));
    if (!fid && !refusal) refusal = "fid unknown or out of range";
    return fid;
}

static struct fid *new_fid(uint32_t number, struct file *file) {
    struct fid *fid = lookup(number) ? NULL : calloc(1, sizeof *fid);
    if (!fid) { refusal = lookup(number) ? "duplicate fid" : "out of memory"; return NULL; }
    fid->number = number, fid->file = file, fid->mode = CLOSED, fid->next = fids;
    file->uses++;
    return fids = fid;
}

static void end_fid(struct fid *fid) {
    struct file *file = fid->file;
    struct fid **link = &fids;
    while (*link != fid) link = &(*link)->next;
    *link = fid->next;
    if (fid->mode != CLOSED) {
        file->opens--;
        if (fid->mode & ORCLOSE && !file->gone && file != &root && !file->first) take_out(file);
    }
    release(file);
    free(fid->listing);
    free(fid);
}

static void open_fid(struct fid *fid, int mode) {
    fid->mode = mode;
    fid->file->opens++;
}

// Whether the file can be that long. What is between its end and the new one is zero.
static int set_size(struct file *file, uint64_t size) {
    if (size > MOST_FILE) { refusal = "file too large"; return 0; }
    uint8_t *data = realloc(file->data, size ? size : 1);
    if (!data) { refusal = "file system full"; return 0; }
    if (size > file->size) memset(data + file->size, 0, size - file->size);
    file->data = data, file->size = size;
    return 1;
}

static int is_name(const char *name) { return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, ".."); }

// -- requests: each reads its fields, sets `refusal` or writes its reply's ----------------------------------------------

static void version(void) {
    char name[NAMELEN + 1];
    uint32_t wanted = get(4);
    text(name);
    if (wanted < LEAST) refusal = "message size too small";
    if (refusal) return;
    while (fids) end_fid(fids);
    msize = wanted < MSIZE ? wanted : MSIZE;
    put(msize, 4);
    put_text(strncmp(name, "9P2000", 6) ? "unknown" : "9P2000");
}

static void attach(void) {
    char user[NAMELEN + 1], tree[NAMELEN + 1];
    uint32_t number = get(4);
    get(4), text(user), text(tree);
    if (!refusal && *tree) refusal = "no such file system";
    if (refusal || !new_fid(number, &root)) return;
    if (!strcmp(root.user, "none")) strcpy(root.user, user);
    put_qid(&root);
}

static void walk(void) {
    struct fid *fid = the_fid();
    uint32_t number = get(4), count = get(2), done = 0;
    if (refusal) return;
    if (count > MOST_NAMES) { refusal = "too many names"; return; }
    if (count && fid->mode != CLOSED) { refusal = "file already open for I/O"; return; }
    if (number != fid->number && lookup(number)) { refusal = "duplicate fid"; return; }
    struct file *file = fid->file;
    uint32_t counted = used;
    put(0, 2);
    for (; done < count; done++) {
        char name[NAMELEN + 1];
        text(name);
        struct file *next = !is_directory(file) ? NULL : strcmp(name, "..") ? find(file, name) : file->above;
        if (refusal || !next || file->gone) break;
        put_qid(file = next);
    }
    if (count && !done) {
        if (!refusal) refusal = is_directory(file) ? "file does not exist" : "not a directory";
        return;
    }
    refusal = NULL;
    out[counted] = done;
    if (done < count) return;
    if (number != fid->number) { new_fid(number, file); return; }
    file->uses++, release(fid->file), fid->file = file;
}

static void open_file(void) {
    struct fid *fid = the_fid();
    int mode = get(1);
    if (refusal) return;
    struct file *file = fid->file;
    int changes = (mode & 3) == OWRITE || (mode & 3) == ORDWR || mode & (OTRUNC | ORCLOSE);
    if (fid->mode != CLOSED) refusal = "file already open for I/O";
    else if (file->gone) refusal = "file does not exist";
    else if (is_directory(file) && changes) refusal = "file is a directory";
    else if (file->mode & DMEXCL && file->opens) refusal = "exclusive use file already open";
    else if (mode & OTRUNC && !(file->mode & DMAPPEND) && set_size(file, 0)) touch(file);
    if (refusal) return;
    open_fid(fid, mode);
    put_qid(file), put(msize - IOHDR, 4);
}

static void create(void) {
    char name[NAMELEN + 1];
    struct fid *fid = the_fid();
    text(name);
    uint32_t perm = get(4);
    int mode = get(1);
    if (refusal) return;
    struct file *above = fid->file, *file;
    if (!is_directory(above) || fid->mode != CLOSED) refusal = "not a directory";
    else if (above->gone) refusal = "file does not exist";
    else if (!is_name(name)) refusal = "bad character in file name";
    else if (find(above, name)) refusal = "file already exists";
    else if (perm & ~(DMDIR | DMAPPEND | DMEXCL | 0777)) refusal = "bad arg in system call";
    else if (perm & DMDIR && (mode & 3) != OREAD) refusal = "file is a directory";
    if (refusal) return;
    if (!(file = calloc(1, sizeof *file))) { refusal = "file system full"; return; }
    strcpy(file->name, name), strcpy(file->user, root.user);
    file->mode = perm & (~0777u | (above->mode & 0777)), file->path = ++paths, file->above = above;
    file->next = above->first, above->first = file;
    touch(above), touch(file);
    release(above), fid->file = file, file->uses++;
    open_fid(fid, mode);
    put_qid(file), put(msize - IOHDR, 4);
}

static void list(struct fid *fid) {
    uint32_t saved = used, length = 0;
    struct file *directory = fid->file;
    for (struct file *file = directory->first; file; file = file->next) length += stat_size(file);
    free(fid->listing);
    fid->length = 0;
    if (!(fid->listing = malloc(length ? length : 1))) { refusal = "out of memory"; return; }
    for (struct file *file = directory->first; file; file = file->next) {
        used = HEADER, put_stat(file);
        memcpy(fid->listing + fid->length, out + HEADER, used - HEADER), fid->length += used - HEADER;
    }
    used = saved;
}

// As many whole stats as fit.
static uint32_t whole(const struct fid *fid, uint64_t offset, uint32_t count) {
    uint32_t got = 0;
    while (offset + got + 2 <= fid->length) {
        const uint8_t *size = fid->listing + offset + got;
        uint32_t next = got + 2 + (size[0] | size[1] << 8);
        if (next > count) break;
        got = next;
    }
    return got;
}

static void read_file(void) {
    struct fid *fid = the_fid();
    uint64_t offset = get(8);
    uint32_t count = get(4);
    if (refusal) return;
    if (fid->mode == CLOSED || (fid->mode & 3) == OWRITE) { refusal = "file not open for reading"; return; }
    if (count > msize - HEADER - 4) count = msize - HEADER - 4;
    const uint8_t *from = fid->file->data;
    uint64_t size = fid->file->size;
    if (is_directory(fid->file)) {
        if (!offset) list(fid);
        if (refusal) return;
        from = fid->listing, size = fid->length;
        count = offset < size ? whole(fid, offset, count) : 0;
        if (!count && offset < size) { refusal = "count too small"; return; }
    }
    if (offset >= size) count = 0;
    else if (count > size - offset) count = size - offset;
    put(count, 4);
    if (count) memcpy(out + used, from + offset, count);
    used += count;
}

static void write_file(void) {
    struct fid *fid = the_fid();
    uint64_t offset = get(8);
    uint32_t count = get(4);
    if (refusal) return;
    int access = fid->mode & 3;
    struct file *file = fid->file;
    if (fid->mode == CLOSED || access == OREAD || access == OEXEC) refusal = "file not open for writing";
    else if ((uint32_t)(end - at) != count) refusal = "bad 9P message";
    if (refusal) return;
    if (file->mode & DMAPPEND) offset = file->size;
    if (offset > MOST_FILE || count > MOST_FILE - offset) { refusal = "file too large"; return; }
    if (offset + count > file->size && !set_size(file, offset + count)) return;
    if (count) memcpy(file->data + offset, at, count), touch(file);
    put(count, 4);
}

static void clunk(void) {
    struct fid *fid = the_fid();
    if (fid) end_fid(fid);
}

static void remove_file(void) {
    struct fid *fid = the_fid();
    if (!fid) return;
    struct file *file = fid->file;
    if (file == &root) refusal = "permission denied";
    else if (file->gone) refusal = "file does not exist";
    else if (file->first) refusal = "directory not empty";
    else take_out(file);
    end_fid(fid);
}

static void stat_file(void) {
    struct fid *fid = the_fid();
    if (!fid) return;
    put(stat_size(fid->file), 2), put_stat(fid->file);
}

static void wstat_file(void) {
    char name[NAMELEN + 1], other[NAMELEN + 1];
    struct fid *fid = the_fid();
    get(2), get(2), get(2), get(4), get(1), get(4), get(8);
    uint32_t mode = get(4);
    get(4);
    uint32_t mtime = get(4);
    uint64_t size = get(8);
    text(name), text(other), text(other), text(other);
    if (refusal) return;
    struct file *file = fid->file, *same = *name && file->above ? find(file->above, name) : NULL;
    int renamed = *name && strcmp(name, file->name);
    // All is checked before anything is changed.
    if (file->gone) refusal = "file does not exist";
    else if (renamed && (file == &root || !is_name(name))) refusal = "bad character in file name";
    else if (renamed && same) refusal = "file already exists";
    else if (mode != UNTOUCHED && (mode ^ file->mode) & DMDIR) refusal = "permission denied";
    else if (size != UNTOUCHED8 && is_directory(file) && size) refusal = "file is a directory";
    else if (size != UNTOUCHED8 && !is_directory(file) && !set_size(file, size)) return;
    if (refusal) return;
    if (renamed) strcpy(file->name, name), touch(file->above);
    if (mode != UNTOUCHED) file->mode = mode & (DMDIR | DMAPPEND | DMEXCL | 0777);
    touch(file);
    if (mtime != UNTOUCHED) file->mtime = mtime;
}

// -- the wire ---------------------------------------------------------------------------------------------------------

static void answer(int type, uint32_t tag) {
    used = HEADER, refusal = NULL;
    switch (type) {
    case Tversion: version(); break;
    case Tauth: refusal = "authentication not required"; break;
    case Tattach: attach(); break;
    case Tflush: break;
    case Twalk: walk(); break;
    case Topen: open_file(); break;
    case Tcreate: create(); break;
    case Tread: read_file(); break;
    case Twrite: write_file(); break;
    case Tclunk: clunk(); break;
    case Tremove: remove_file(); break;
    case Tstat: stat_file(); break;
    case Twstat: wstat_file(); break;
    default: refusal = "unknown message"; break;
    }
    if (refusal) used = HEADER, put_text(refusal), type = Rerror - 1;
    uint32_t size = used;
    used = 0, put(size, 4), put(type + 1, 1), put(tag, 2), used = size;
}

static int read_all(uint8_t *into, uint32_t size) {
    while (size) {
        ssize_t got = read(0, into, size);
        if (got <= 0) return 0;
        into += got, size -= got;
    }
    return 1;
}

static int write_all(const uint8_t *from, uint32_t size) {
    while (size) {
        ssize_t done = write(1, from, size);
        if (done <= 0) return 0;
        from += done, size -= done;
    }
    return 1;
}

int main(void) {
    root.above = &root, root.uses = 1, root.mtime = time(NULL);
    while (read_all(in, 4)) {
        uint32_t size = in[0] | in[1] << 8 | in[2] << 16 | (uint32_t)in[3] << 24;
        if (size < HEADER || size > msize) { fprintf(stderr, "memfs: a message of %u bytes\n", size); return 1; }
        if (!read_all(in + 4, size - 4)) return 1;
        at = in + HEADER, end = in + size;
        answer(in[4], in[5] | in[6] << 8);
        if (!write_all(out, used)) return 1;
    }
    return 0;
}
