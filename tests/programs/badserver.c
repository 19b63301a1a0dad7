// A 9P server that agrees on a version and lets its client attach, and then behaves as its argument says:
// silent (answers nothing more; "deaf" not even at first), exit, garbage, wrongtag, flood, huge, loop.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t in[1 << 17], out[1 << 12];

static int all(ssize_t (*move)(int, void *, size_t), int fd, uint8_t *data, uint32_t size) {
    while (size) {
        ssize_t done = move(fd, data, size);
        if (done <= 0) return 0;
        data += done, size -= done;
    }
    return 1;
}

static ssize_t writing(int fd, void *data, size_t size) { return write(fd, data, size); }

static int request(void) {
    if (!all(read, 0, in, 4)) exit(0);
    uint32_t size = in[0] | in[1] << 8 | in[2] << 16 | (uint32_t)in[3] << 24;
    if (size < 7 || size > sizeof in || !all(read, 0, in + 4, size - 4)) exit(2);
    return in[4];
}

static void answer(int type, const uint8_t *body, uint32_t size) {
    uint32_t whole = 7 + size;
    out[0] = whole, out[1] = whole >> 8, out[2] = whole >> 16, out[3] = whole >> 24, out[4] = type;
    out[5] = in[5], out[6] = in[6];
    memcpy(out + 7, body, size);
    if (!all(writing, 1, out, whole)) exit(3);
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "silent";
    const uint8_t agreed[] = {0, 32, 0, 0, 6, 0, '9', 'P', '2', '0', '0', '0'};
    const uint8_t root[13] = {0x80};
    const uint8_t nothing[1] = {0};
    if (!strcmp(how, "deaf")) while (1) request();
    if (request() != 100) return 4;
    answer(101, agreed, sizeof agreed);
    if (request() != 104) return 4;
    answer(105, root, sizeof root);
    if (!strcmp(how, "silent")) while (1) request();
    request();
    if (!strcmp(how, "exit")) return 0;
    if (!strcmp(how, "garbage")) for (int i = 0; i < 4096; i++) out[i] = 37 * i;
    if (!strcmp(how, "garbage")) return all(writing, 1, out, sizeof out) ? 0 : 3;
    if (!strcmp(how, "wrongtag")) in[5] ^= 0x55, answer(121, nothing, 0);
    if (!strcmp(how, "huge")) memset(out, 0x7f, 16), all(writing, 1, out, 16);
    if (!strcmp(how, "flood")) while (1) answer(121, nothing, 0);
    if (!strcmp(how, "loop")) while (1) nothing[0] == 1 ? exit(9) : (void)0;
    while (1) request();
}
