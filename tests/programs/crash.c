/* Goes wrong in the way its argument names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <wasi/api.h>

__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_raise"))) int proc_raise(int);

static int deep(volatile int n) {
    volatile char frame[256];
    frame[n & 255] = (char)n;
    return deep(n + 1) + frame[(n + 1) & 255];
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    if (!strcmp(how, "wild")) { *(volatile int *)0xfffffff0 = 1; return 0; }
    if (!strcmp(how, "deep")) return deep(0);
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "trap")) __builtin_trap();
    if (!strcmp(how, "raise")) return proc_raise(15);
    if (!strcmp(how, "exit")) exit(argc > 2 ? atoi(argv[2]) : 0);
    if (!strcmp(how, "pointers")) {
        /* Every one of these must be refused with EFAULT and leave the program alive. */
        int bad = 0;
        bad |= write(1, (void *)0xfffffff0, 100) != -1 || errno != EFAULT;
        bad |= read(0, (void *)0xfffffff0, 100) != -1 || errno != EFAULT;
        bad |= __wasi_random_get((uint8_t *)0xffffff00, 1000) != __WASI_ERRNO_FAULT;
        bad |= __wasi_clock_time_get(0, 0, (void *)0xfffffffc) != __WASI_ERRNO_FAULT;
        bad |= __wasi_fd_readdir(3, (uint8_t *)0xfffffff0, 4096, 0, (void *)16) != __WASI_ERRNO_FAULT;
        puts(bad ? "bad" : "refused");
        return bad;
    }
    return 2;
}
