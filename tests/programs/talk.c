// A program of Cognu's own calls: talk serve COUNT | talk ask WORD ... | talk keep | talk wait
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(name) __attribute__((import_module("cognu"), import_name(#name)))
struct cap { uint64_t slot, generation; };
struct gift { struct cap cap; uint32_t rights, unused; };
struct notice { uint32_t kind, caps; uint64_t message, badge; uint32_t size, unused; uint8_t interface[32]; char rest[4096]; };
enum { REQUEST = 1, ANSWER, FAILED, CANCELLED };
enum { WANTED = 1, BY_CAP = 2, BLOCK = 1, REQUESTS = 2 };

CALL(emit_message) int64_t emit_message(const void *to, const void *data, uint32_t size, const struct gift *, uint32_t count, uint32_t flags);
CALL(emit_answer) int32_t emit_answer(uint64_t message, const void *data, uint32_t size, const struct gift *, uint32_t count);
CALL(next_message) int32_t next_message(uint64_t *messages, uint32_t count, void *out, uint32_t room, uint32_t flags);

static uint8_t name[32] = "interface of the test";
static struct notice got;
static char *body(void) { return got.rest + got.caps * sizeof(struct cap); }

static int next(uint64_t *messages, uint32_t count, uint32_t flags) {
    int n = next_message(messages, count, &got, sizeof got, flags | BLOCK);
    if (n < 0) { printf("next: %d\n", -n); exit(1); }
    return n;
}

static void upper(char *text, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) if (text[i] >= 'a' && text[i] <= 'z') text[i] -= 32;
}

static int serve(int count) {
    while (count-- > 0) {
        next(NULL, 0, REQUESTS);
        if (got.kind == CANCELLED) { printf("cancelled %d\n", got.message != 0); continue; }
        printf("request %.*s from %d caps %d\n", (int)got.size, body(), (int)got.badge, (int)got.caps);
        fflush(stdout);
        if (got.size == 4 && !memcmp(body(), "keep", 4)) continue;
        if (got.size == 4 && !memcmp(body(), "exit", 4)) return 0;
        if (got.caps) {
            struct cap given;
            memcpy(&given, got.rest, sizeof given);
            if (emit_message(&given, "by your leave", 13, NULL, 0, BY_CAP) < 0) return 2;
        }
        upper(body(), got.size);
        if (got.message && emit_answer(got.message, body(), got.size, NULL, 0)) return 3;
    }
    return 0;
}

static int ask(int count, char **words) {
    uint64_t sent[8];
    int left = 0;
    for (int i = 0; i < count; i++) {
        int64_t id = emit_message(name, words[i], strlen(words[i]), NULL, 0, WANTED);
        if (id < 0) { printf("emit: %d\n", (int)-id); continue; }
        sent[left++] = id;
    }
    for (int i = 0; i < left; i++) {
        next(sent, left, 0);
        if (got.kind == ANSWER) printf("%.*s\n", (int)got.size, body()); else printf("kind %d\n", got.kind);
    }
    return next_message(sent, left, &got, sizeof got, 0) == 0 && next_message(sent, left, &got, sizeof got, BLOCK) == -22 ? 0 : 4;
}

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
    if (argc > 2 && !strcmp(argv[1], "ask")) return ask(argc - 2, argv + 2);
    if (argc > 1 && !strcmp(argv[1], "keep")) {
        // The first is delivered, and not answered, once the second is answered.
        if (emit_message(name, "keep", 4, NULL, 0, WANTED) < 0) return 5;
        return ask(1, (char *[]){"ok"});
    }
    if (argc > 1 && !strcmp(argv[1], "wait")) return next(NULL, 0, REQUESTS);
    return 9;
}
