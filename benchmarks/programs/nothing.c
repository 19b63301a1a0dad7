/* A program that does nothing: its time is that of starting and ending. */
int main(void) { return 0; }
