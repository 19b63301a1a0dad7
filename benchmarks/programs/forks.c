/* forks PROGRAM COUNT: start PROGRAM that often by fork and execve, wait for each; prints ns per start. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec began, ended;
    char *args[] = {argv[1], NULL}, *environment[] = {NULL};
    long count = atol(argv[2]);

    clock_gettime(CLOCK_MONOTONIC, &began);
    for (long done = 0; done < count; done++) {
        int status;
        pid_t child = fork();

        if (child == 0) {
            execve(argv[1], args, environment);
            _exit(127);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            perror(argv[1]);
            return 1;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.0f\n", ((ended.tv_sec - began.tv_sec) * 1e9 + (ended.tv_nsec - began.tv_nsec)) / count);
    return 0;
}
