/* Clocks, random numbers, environment, polling, in one line each; and writing without waiting. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char block[65536];

static int now(void) {
    struct timespec a, b, pause = {0, 20000000};
    int bad = 0;
    bad |= clock_gettime(CLOCK_MONOTONIC, &a) | nanosleep(&pause, 0) | clock_gettime(CLOCK_MONOTONIC, &b);
    bad |= (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec < 20000000;
    bad |= clock_gettime(CLOCK_REALTIME, &a) || a.tv_sec < 1700000000;
    bad |= clock_getres(CLOCK_MONOTONIC, &a);
    bad |= sched_yield();
    printf("time %s\n", bad ? "bad" : "ok");
    return bad;
}

static int chance(void) {
    unsigned char a[256] = {0}, b[256] = {0};
    int bad = getentropy(a, sizeof a) || getentropy(b, sizeof b) || !memcmp(a, b, sizeof a);
    printf("random %s\n", bad ? "bad" : "ok");
    return bad;
}

static int waiting(void) {
    char text[16];
    struct pollfd in = {0, POLLIN, 0};
    int bad = poll(&in, 1, 10) != 0;
    printf("nothing yet\n");
    fflush(stdout);
    bad |= poll(&in, 1, -1) != 1 || !(in.revents & POLLIN);
    bad |= read(0, text, sizeof text) != 5 || memcmp(text, "hello", 5);
    bad |= fcntl(0, F_SETFL, O_NONBLOCK) != 0;
    bad |= read(0, text, sizeof text) != -1 || errno != EAGAIN;
    printf("poll %s\n", bad ? "bad" : "ok");
    return bad;
}

static int behind(void) {
    int bad = fcntl(1, F_SETFL, O_NONBLOCK) != 0;
    bad |= write(1, block, sizeof block) != sizeof block;
    bad |= write(1, "last words", 10) != 10;
    bad |= write(1, "too much", 8) != -1 || errno != EAGAIN;
    return bad;
}

int main(int argc, char **argv) {
    if (argc < 2) return now() | chance();
    if (!strcmp(argv[1], "env")) {
        const char *value = getenv(argc > 2 ? argv[2] : "NAME");
        return puts(value ? value : "none") < 0;
    }
    if (!strcmp(argv[1], "poll")) return waiting();
    if (!strcmp(argv[1], "behind")) return behind();
    if (!strcmp(argv[1], "bytes")) {
        for (int n = atoi(argv[2]); n > 0; n--)
            if (write(1, "x", 1) != 1) return 1;
        return 0;
    }
    return 2;
}
