/* chaos SEED COUNT: makes COUNT host calls with arguments at random: numbers, and pointers good and bad. Prints how many
   of them were refused. Never waits for long: clocks that it polls are over at once. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(name, ...) \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) int host_##name(__VA_ARGS__)
#define I uint32_t
#define L uint64_t
CALL(args_get, I, I);
CALL(args_sizes_get, I, I);
CALL(environ_get, I, I);
CALL(environ_sizes_get, I, I);
CALL(clock_res_get, I, I);
CALL(clock_time_get, I, L, I);
CALL(fd_advise, I, L, L, I);
CALL(fd_allocate, I, L, L);
CALL(fd_close, I);
CALL(fd_datasync, I);
CALL(fd_fdstat_get, I, I);
CALL(fd_fdstat_set_flags, I, I);
CALL(fd_fdstat_set_rights, I, L, L);
CALL(fd_filestat_get, I, I);
CALL(fd_filestat_set_size, I, L);
CALL(fd_filestat_set_times, I, L, L, I);
CALL(fd_pread, I, I, I, L, I);
CALL(fd_prestat_get, I, I);
CALL(fd_prestat_dir_name, I, I, I);
CALL(fd_pwrite, I, I, I, L, I);
CALL(fd_read, I, I, I, I);
CALL(fd_readdir, I, I, I, L, I);
CALL(fd_renumber, I, I);
CALL(fd_seek, I, L, I, I);
CALL(fd_sync, I);
CALL(fd_tell, I, I);
CALL(fd_write, I, I, I, I);
CALL(path_create_directory, I, I, I);
CALL(path_filestat_get, I, I, I, I, I);
CALL(path_filestat_set_times, I, I, I, I, L, L, I);
CALL(path_link, I, I, I, I, I, I, I);
CALL(path_open, I, I, I, I, I, L, L, I, I);
CALL(path_readlink, I, I, I, I, I, I);
CALL(path_remove_directory, I, I, I);
CALL(path_rename, I, I, I, I, I, I);
CALL(path_symlink, I, I, I, I, I);
CALL(path_unlink_file, I, I, I);
CALL(poll_oneoff, I, I, I, I);
CALL(proc_raise, I);
CALL(random_get, I, I);
CALL(sched_yield, void);
CALL(sock_accept, I, I, I);
CALL(sock_recv, I, I, I, I, I, I);
CALL(sock_send, I, I, I, I, I);
CALL(sock_shutdown, I, I);

static uint64_t state;
static uint8_t arena[8192], polled[48 * 8];
static const char *const PATHS[] = {"a", "b", "d", "d/x", "d/../a", "..", ".", "/a", "l", "l/x", "", "a/", "d//y/z", "\xff", "a\0b"};

static uint64_t any(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static I small(void) { return any() % 12; }

static I n(void) {
    switch (any() % 8) {
    case 0: return (I)any();
    case 1: return (I)-(int)(any() % 64);
    case 2: return (I)__builtin_wasm_memory_size(0) * 65536 - any() % 64;
    case 3: return any() % 65536;
    default: return small();
    }
}

static L w(void) { return any() % 4 ? any() % 5000 : any() >> (any() % 64); }

/* Descriptors 3 and 4 are the preopened ones; they stay, or nothing else would happen. */
static I fd(void) { return any() % 3 ? 3 + any() % 2 : any() % 8 ? any() % 40 : n(); }
static I loose(void) { return any() % 8 ? 5 + any() % 40 : n() | 8; }
static I p(void) { return any() % 8 ? (I)(uintptr_t)arena + (any() & 4095) : n(); }

static I path(I *size) {
    unsigned which = any() % (sizeof PATHS / sizeof *PATHS);
    if (any() % 16 == 0) {
        *size = n();
        return n();
    }
    *size = which == 14 ? 3 : strlen(PATHS[which]);
    return (I)(uintptr_t)PATHS[which];
}

static I vectors(void) {
    uint32_t list[4] = {p(), any() % 300, p(), any() % 16 ? any() % 300 : n()};
    memcpy(arena + 4096, list, sizeof list);
    return any() % 16 ? (I)(uintptr_t)arena + 4096 : n();
}

static int poll(void) {
    unsigned count = any() % 8;
    memset(polled, 0, sizeof polled);
    for (unsigned at = 1; at < count; at++) {
        polled[48 * at + 8] = any() % 4;
        polled[48 * at + 16] = any() % 16;
    }
    return host_poll_oneoff(any() % 16 ? (I)(uintptr_t)polled : 0xffff0000u | n(), p(), any() % 16 ? count : 0xfffff, p());
}

static int one(void) {
    I size, size2, at, at2;
    at = path(&size);
    at2 = path(&size2);
    switch (any() % 46) {
    case 0: return host_args_get(p(), p());
    case 1: return host_args_sizes_get(p(), p());
    case 2: return host_environ_get(p(), p());
    case 3: return host_environ_sizes_get(p(), p());
    case 4: return host_clock_res_get(n(), p());
    case 5: return host_clock_time_get(n(), w(), p());
    case 6: return host_fd_advise(fd(), w(), w(), n());
    case 7: return host_fd_allocate(fd(), w(), w());
    case 8: return host_fd_close(loose());
    case 9: return host_fd_datasync(fd());
    case 10: return host_fd_fdstat_get(fd(), p());
    case 11: return host_fd_fdstat_set_flags(fd(), n());
    case 12: return host_fd_fdstat_set_rights(loose(), any() | any(), any() | any());
    case 13: return host_fd_filestat_get(fd(), p());
    case 14: return host_fd_filestat_set_size(fd(), w());
    case 15: return host_fd_filestat_set_times(fd(), w(), w(), n());
    case 16: return host_fd_pread(loose(), vectors(), any() % 3, w(), p());
    case 17: return host_fd_prestat_get(fd(), p());
    case 18: return host_fd_prestat_dir_name(fd(), p(), n());
    case 19: return host_fd_pwrite(loose(), vectors(), any() % 3, w(), p());
    case 20: return host_fd_read(loose(), vectors(), any() % 3, p());
    case 21: return host_fd_readdir(fd(), p(), any() % 2000, any() % 8 ? any() % 8 : w(), p());
    case 22: return host_fd_renumber(loose(), loose());
    case 23: return host_fd_seek(loose(), w(), small(), p());
    case 24: return host_fd_sync(fd());
    case 25: return host_fd_tell(fd(), p());
    case 26: return host_fd_write(loose(), vectors(), any() % 3, p());
    case 27: return host_path_create_directory(fd(), at, size);
    case 28: return host_path_filestat_get(fd(), n(), at, size, p());
    case 29: return host_path_filestat_set_times(fd(), n(), at, size, w(), w(), n());
    case 30: return host_path_link(fd(), n(), at, size, fd(), at2, size2);
    case 31: case 32: case 33: case 34:
        return host_path_open(fd(), n(), at, size, any() % 16, any(), any(), any() % 4 ? 0 : n(), p());
    case 35: return host_path_readlink(fd(), at, size, p(), any() % 300, p());
    case 36: return host_path_remove_directory(fd(), at, size);
    case 37: return host_path_rename(fd(), at, size, fd(), at2, size2);
    case 38: return host_path_symlink(at, size, fd(), at2, size2);
    case 39: return host_path_unlink_file(fd(), at, size);
    case 40: return poll();
    case 41: return host_proc_raise(any() % 2 ? 0 : 31 + n() % 1000);
    case 42: return host_random_get(p(), any() % 300);
    case 43: return host_sched_yield();
    case 44: return any() % 2 ? host_sock_accept(fd(), n(), p()) : host_sock_shutdown(fd(), n());
    default: return any() % 2 ? host_sock_recv(fd(), vectors(), 1, n(), p(), p()) : host_sock_send(fd(), vectors(), 1, n(), p());
    }
}

int main(int argc, char **argv) {
    unsigned refused = 0;
    if (argc < 3) return 2;
    state = strtoull(argv[1], 0, 0) * 2654435761u + 1;
    unsigned count = strtoul(argv[2], 0, 0);
    for (unsigned i = 0; i < count; i++) refused += one() != 0;
    /* Its own descriptors may be anything by now; its status says that it came here. */
    return refused * 10 > count && refused < count ? 7 : 1;
}
