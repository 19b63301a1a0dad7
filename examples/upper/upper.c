// A handler of an interface and what asks it: upper INTERFACE serve | upper INTERFACE ask WORD...
// INTERFACE is 64 hex digits. Serving goes on until it is killed; asking ends with 1 if an answer did not come.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CALL(name) __attribute__((import_module("cognu"), import_name(#name)))
CALL(emit_message) int64_t emit_message(const void *to, const void *data, uint32_t size, const void *gifts, uint32_t count, uint32_t flags);
CALL(emit_answer) int32_t emit_answer(uint64_t message, const void *data, uint32_t size, const void *gifts, uint32_t count);
CALL(next_message) int32_t next_message(uint64_t *messages, uint32_t count, void *out, uint32_t room, uint32_t flags);
enum { WANTED = 1, BLOCK = 1, REQUESTS = 2, REQUEST = 1, ANSWER = 2 };

static struct {
    uint32_t kind, capabilities;
    uint64_t message, badge;
    uint32_t size, unused;
    uint8_t interface[32];
    char body[4096];
} came;

static int serve(void) {
    for (;;) {
        // With no numbers to wait for, only requests come. One that is larger than there is room for ends this.
        if (next_message(NULL, 0, &came, sizeof came, BLOCK | REQUESTS) > (int)sizeof came) return 2;
        if (came.kind != REQUEST || !came.message || came.capabilities) continue;
        for (uint32_t i = 0; i < came.size; i++)
            if (came.body[i] >= 'a' && came.body[i] <= 'z') came.body[i] -= 'a' - 'A';
        emit_answer(came.message, came.body, came.size, NULL, 0);  // if it is not wanted any more, nobody is told
    }
}

static int ask(const uint8_t *interface, const char *word) {
    int64_t message = emit_message(interface, word, strlen(word), NULL, 0, WANTED);
    if (message < 0) {
        fprintf(stderr, "upper: %s: error %d\n", word, (int)-message);
        return 1;
    }
    uint64_t waited[] = {(uint64_t)message};
    if (next_message(waited, 1, &came, sizeof came, BLOCK) < 0 || came.kind != ANSWER) {
        fprintf(stderr, "upper: %s: no answer\n", word);
        return 1;
    }
    printf("%.*s\n", (int)came.size, came.body);
    return 0;
}

int main(int count, char **words) {
    uint8_t interface[32];
    int at = 0;
    if (count > 2 && strlen(words[1]) == 64)
        while (at < 32 && sscanf(words[1] + 2 * at, "%2hhx", &interface[at]) == 1) at++;
    if (at == 32 && count == 3 && !strcmp(words[2], "serve")) return serve();
    if (at < 32 || count < 4 || strcmp(words[2], "ask")) {
        fprintf(stderr, "usage: upper INTERFACE serve | upper INTERFACE ask WORD...\n");
        return 2;
    }
    int failed = 0;
    for (int i = 3; i < count; i++) failed |= ask(interface, words[i]);
    return failed;
}
