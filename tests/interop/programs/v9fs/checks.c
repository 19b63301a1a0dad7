/* What a program may ask of files, as Linux has it: see the manual's sections 2 and 3. */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"

#define LARGE (1 << 20)

static char buffer[LARGE], pattern[LARGE];

static void put(const char *path, const char *text)
{
	int fd = MUST(open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644));

	HOLDS(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	MUST(close(fd));
}

static void has(const char *path, const char *text)
{
	int fd = MUST(open(path, O_RDONLY));
	ssize_t got = MUST(read(fd, buffer, sizeof buffer));

	HOLDS(got == (ssize_t)strlen(text) && memcmp(buffer, text, got) == 0);
	MUST(close(fd));
}

static void fill(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)(i * 31 + (i >> 8));
}

/* A child's end must be 0. */
static void joined(pid_t pid)
{
	int status;

	HOLDS(waitpid(pid, &status, 0) == pid);
	HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* By BusyBox, whose tools say more of what failed than this program would. */
static void run(const char *command)
{
	pid_t pid = MUST(fork());

	if (pid == 0) {
		execl("/bin/busybox", "sh", "-ec", command, (char *)NULL);
		_exit(127);
	}
	joined(pid);
}

/* -- contents -- */

static void create_write_read(void)
{
	struct stat st;
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0640));

	fill();
	HOLDS(write(fd, pattern, LARGE) == LARGE);
	for (size_t at = 0; at < LARGE;) {
		ssize_t got = MUST(pread(fd, buffer + at, LARGE - at, at));
		HOLDS(got > 0);
		at += got;
	}
	HOLDS(memcmp(buffer, pattern, LARGE) == 0);
	HOLDS(pread(fd, buffer, 10, LARGE) == 0);
	MUST(fstat(fd, &st));
	HOLDS(st.st_size == LARGE && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640 && st.st_nlink == 1);
	HOLDS(pwrite(fd, "xyz", 3, 70000) == 3);
	HOLDS(pread(fd, buffer, 5, 69999) == 5 && memcmp(buffer + 1, "xyz", 3) == 0 && buffer[0] == pattern[69999]);
	MUST(close(fd));
}

static void exclusive(void)
{
	MUST(close(MUST(open("f", O_CREAT | O_EXCL | O_WRONLY, 0644))));
	FAILS(open("f", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
	MUST(close(MUST(open("f", O_CREAT | O_WRONLY, 0644))));
	FAILS(open("none", O_RDONLY), ENOENT);
	FAILS(open("f/below", O_RDONLY), ENOTDIR);
	FAILS(mkdir("f", 0755), EEXIST);
}

static void append(void)
{
	int one = MUST(open("f", O_CREAT | O_WRONLY | O_APPEND, 0644)), two = MUST(open("f", O_WRONLY | O_APPEND));

	for (int i = 0; i < 5; i++) {
		HOLDS(write(one, "1", 1) == 1);
		HOLDS(write(two, "2", 1) == 1);
	}
	MUST(close(one));
	MUST(close(two));
	has("f", "1212121212");
}

/* Two clients: the end is where the server has it. */
static void append_from_two_clients(void)
{
	char path[600];

	put("f", "");
	snprintf(path, sizeof path, "%s/f", other_mount);
	int one = MUST(open("f", O_WRONLY | O_APPEND)), two = MUST(open(path, O_WRONLY | O_APPEND));
	for (int i = 0; i < 5; i++) {
		HOLDS(write(one, "1", 1) == 1);
		HOLDS(write(two, "2", 1) == 1);
	}
	MUST(close(one));
	MUST(close(two));
	has(path, "1212121212");
}

static void truncating(void)
{
	struct stat st;

	put("f", "0123456789");
	int fd = MUST(open("f", O_RDWR));
	MUST(ftruncate(fd, 4));
	HOLDS(pread(fd, buffer, 100, 0) == 4);
	MUST(ftruncate(fd, 8));
	HOLDS(pread(fd, buffer, 100, 0) == 8 && memcmp(buffer, "0123\0\0\0\0", 8) == 0);
	MUST(fstat(fd, &st));
	HOLDS(st.st_size == 8);
	MUST(truncate("f", 2));
	HOLDS(pread(fd, buffer, 100, 0) == 2);
	MUST(close(MUST(open("f", O_WRONLY | O_TRUNC))));
	HOLDS(pread(fd, buffer, 100, 0) == 0);
	MUST(close(fd));
	FAILS(truncate(".", 0), EISDIR);
}

static void sparse(void)
{
	struct stat st;
	const off_t far = (off_t)5 << 30;
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0644));

	HOLDS(pwrite(fd, "end", 3, far) == 3);
	MUST(fstat(fd, &st));
	HOLDS(st.st_size == far + 3);
	memset(buffer, 1, 4096);
	HOLDS(pread(fd, buffer, 4096, far / 2) == 4096);
	for (int i = 0; i < 4096; i++)
		HOLDS(buffer[i] == 0);
	HOLDS(pread(fd, buffer, 10, far) == 3 && memcmp(buffer, "end", 3) == 0);
	HOLDS(lseek(fd, 0, SEEK_END) == far + 3);
	MUST(close(fd));
}

static void many_open(void)
{
	static int fds[300];
	char name[20];

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "f%d", i);
		fds[i] = MUST(open(name, O_CREAT | O_RDWR, 0644));
		HOLDS(write(fds[i], name, strlen(name)) == (ssize_t)strlen(name));
	}
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "f%d", i);
		HOLDS(pread(fds[i], buffer, 20, 0) == (ssize_t)strlen(name) && memcmp(buffer, name, strlen(name)) == 0);
		MUST(close(fds[i]));
		MUST(unlink(name));
	}
}

static void syncing(void)
{
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0644));

	HOLDS(write(fd, "kept", 4) == 4);
	MUST(fsync(fd));
	MUST(fdatasync(fd));
	MUST(close(fd));
}

static void sync_directory(void)
{
	int fd = MUST(open(".", O_RDONLY | O_DIRECTORY));

	MUST(fsync(fd));
	MUST(close(fd));
}

static void map_private(void)
{
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0644));

	fill();
	HOLDS(write(fd, pattern, 100000) == 100000);
	char *at = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	HOLDS(at != MAP_FAILED);
	HOLDS(memcmp(at, pattern, 100000) == 0);
	at[5000] ^= 1;
	HOLDS(pread(fd, buffer, 1, 5000) == 1 && buffer[0] == pattern[5000]);
	MUST(munmap(at, 100000));
	MUST(close(fd));
}

static void map_shared(void)
{
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0644));
	char path[600];

	fill();
	HOLDS(write(fd, pattern, 100000) == 100000);
	char *at = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	HOLDS(at != MAP_FAILED);
	HOLDS(memcmp(at, pattern, 100000) == 0);
	memcpy(at + 50000, "changed", 7);
	MUST(msync(at, 100000, MS_SYNC));
	MUST(munmap(at, 100000));
	MUST(close(fd));
	snprintf(path, sizeof path, "%s/f", other_mount);
	fd = MUST(open(path, O_RDONLY));
	HOLDS(pread(fd, buffer, 9, 49999) == 9);
	HOLDS(buffer[0] == pattern[49999] && memcmp(buffer + 1, "changed", 7) == 0 && buffer[8] == pattern[50007]);
	MUST(close(fd));
}

static void executing(void)
{
	run("cp /bin/busybox ./busybox; chmod 755 busybox; ./busybox true; ./busybox echo hello >out");
	has("out", "hello\n");
}

/* -- names -- */

static void unlink_while_open(void)
{
	put("f", "before");
	int fd = MUST(open("f", O_RDWR));
	MUST(unlink("f"));
	FAILS(open("f", O_RDONLY), ENOENT);
	HOLDS(pread(fd, buffer, 100, 0) == 6);
	HOLDS(pwrite(fd, "after", 5, 6) == 5);
	HOLDS(pread(fd, buffer, 100, 0) == 11 && memcmp(buffer, "beforeafter", 11) == 0);
	put("f", "another");
	HOLDS(pread(fd, buffer, 100, 0) == 11);
	MUST(close(fd));
	has("f", "another");
}

static void rename_in_its_directory(void)
{
	put("a", "a");
	MUST(rename("a", "b"));
	FAILS(open("a", O_RDONLY), ENOENT);
	has("b", "a");
	MUST(mkdir("d", 0755));
	put("d/x", "x");
	MUST(rename("d", "e"));
	has("e/x", "x");
	FAILS(rename("none", "f"), ENOENT);
}

static void rename_over_an_open_file(void)
{
	put("old", "old");
	put("new", "new");
	int fd = MUST(open("old", O_RDWR));
	MUST(rename("new", "old"));
	HOLDS(pread(fd, buffer, 100, 0) == 3 && memcmp(buffer, "old", 3) == 0);
	HOLDS(pwrite(fd, "OLD", 3, 0) == 3);
	MUST(close(fd));
	has("old", "new");
	FAILS(open("new", O_RDONLY), ENOENT);
}

static void rename_while_open(void)
{
	put("a", "1");
	int fd = MUST(open("a", O_RDWR));
	MUST(rename("a", "b"));
	HOLDS(pwrite(fd, "2", 1, 1) == 1);
	MUST(ftruncate(fd, 2));
	MUST(fchmod(fd, 0600));
	MUST(close(fd));
	has("b", "12");
}

static void rename_to_another_directory(void)
{
	MUST(mkdir("d", 0755));
	MUST(mkdir("e", 0755));
	put("d/x", "x");
	MUST(rename("d/x", "e/y"));
	has("e/y", "x");
	MUST(rename("e", "d/e"));
	has("d/e/y", "x");
	FAILS(rename("d", "d/e/d"), EINVAL);
	put("d/x", "x");
	MUST(mkdir("f", 0755));
	FAILS(rename("f", "d"), ENOTEMPTY);
	FAILS(rename("d/x", "f"), EISDIR);
	FAILS(rename("f", "d/x"), ENOTDIR);
	MUST(rename("d", "f"));
	has("f/e/y", "x");
}

static void removing(void)
{
	MUST(mkdir("d", 0755));
	put("d/x", "x");
	FAILS(rmdir("d"), ENOTEMPTY);
	FAILS(unlink("d"), EISDIR);
	FAILS(rmdir("d/x"), ENOTDIR);
	FAILS(unlink("none"), ENOENT);
	MUST(unlink("d/x"));
	MUST(rmdir("d"));
	FAILS(rmdir("d"), ENOENT);
}

static void hard_link(void)
{
	struct stat one, two;

	put("a", "first");
	MUST(link("a", "b"));
	MUST(stat("a", &one));
	MUST(stat("b", &two));
	HOLDS(one.st_ino == two.st_ino && one.st_nlink == 2 && two.st_nlink == 2);
	put("b", "second");
	has("a", "second");
	FAILS(link("a", "b"), EEXIST);
	MUST(mkdir("d", 0755));
	MUST(link("a", "d/c"));
	FAILS(link("d", "e"), EPERM);
	MUST(unlink("a"));
	has("b", "second");
	has("d/c", "second");
	MUST(unlink("d/c"));
	MUST(stat("b", &two));
	HOLDS(two.st_nlink == 1);
}

/* Over another name of the same file: nothing happens. */
static void rename_of_a_hard_link(void)
{
	put("a", "kept");
	MUST(link("a", "b"));
	MUST(rename("a", "b"));
	has("a", "kept");
	has("b", "kept");
}

static void symbolic_link(void)
{
	struct stat st;

	put("a", "target");
	MUST(symlink("a", "l"));
	HOLDS(readlink("l", buffer, 100) == 1 && buffer[0] == 'a');
	has("l", "target");
	MUST(lstat("l", &st));
	HOLDS(S_ISLNK(st.st_mode) && st.st_size == 1);
	FAILS(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
	MUST(symlink("/nowhere/at all", "dangling"));
	FAILS(open("dangling", O_RDONLY), ENOENT);
	HOLDS(readlink("dangling", buffer, 100) == 15);
	MUST(symlink("circle", "circle"));
	FAILS(open("circle", O_RDONLY), ELOOP);
	FAILS(symlink("b", "l"), EEXIST);
	MUST(unlink("l"));
	has("a", "target");
}

static void pipe_by_name(void)
{
	struct stat st;

	MUST(mkfifo("p", 0600));
	MUST(stat("p", &st));
	HOLDS(S_ISFIFO(st.st_mode) && (st.st_mode & 07777) == 0600);
	pid_t pid = MUST(fork());
	if (pid == 0) {
		int fd = open("p", O_WRONLY);
		_exit(write(fd, "through", 7) != 7);
	}
	int fd = MUST(open("p", O_RDONLY));
	HOLDS(read(fd, buffer, 100) == 7);
	MUST(close(fd));
	joined(pid);
}

static void socket_by_name(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "s"};
	struct stat st;
	int server = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));

	MUST(bind(server, (struct sockaddr *)&at, sizeof at));
	MUST(listen(server, 1));
	MUST(stat("s", &st));
	HOLDS(S_ISSOCK(st.st_mode));
	MUST(connect(client, (struct sockaddr *)&at, sizeof at));
	MUST(close(client));
	MUST(close(server));
}

/* None is ever made: it would be the server's. */
static void no_device(void)
{
	FAILS(mknod("null", S_IFCHR | 0600, makedev(1, 3)), EPERM);
	FAILS(mknod("disk", S_IFBLK | 0600, makedev(8, 0)), EPERM);
}

static void deep_path(void)
{
	char path[300] = ".";

	for (int i = 0; i < 40; i++) {
		strcat(path, "/dir");
		MUST(mkdir(path, 0755));
	}
	strcat(path, "/leaf");
	put(path, "deep");
	has(path, "deep");
	for (int i = 0; i < 40; i++)
		MUST(chdir("dir"));
	has("leaf", "deep");
	HOLDS(getcwd(buffer, 4096) != NULL && strlen(buffer) > 160);
	MUST(chdir("../.."));
	has("dir/dir/leaf", "deep");
}

static void long_names(void)
{
	char name[300];

	memset(name, 'n', sizeof name);
	name[255] = 0;
	put(name, "long");
	has(name, "long");
	name[255] = 'n';
	name[256] = 0;
	FAILS(open(name, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
	put("Grüße und 日本語", "utf-8");
	has("Grüße und 日本語", "utf-8");
	put(" spaces\tand\nlines ", "odd");
	has(" spaces\tand\nlines ", "odd");
}

/* -- directories -- */

#define MANY 1000

static void make_many(void)
{
	char name[20];

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "f%04d", i);
		MUST(close(MUST(open(name, O_CREAT | O_WRONLY, 0644))));
	}
}

static void read_a_large_directory(void)
{
	static char seen[MANY];
	struct dirent *entry;
	int count = 0;

	MUST(mkdir("d", 0755));
	MUST(chdir("d"));
	make_many();
	DIR *directory = opendir(".");
	HOLDS(directory != NULL);
	while ((entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		int number = atoi(entry->d_name + 1);
		HOLDS(number >= 0 && number < MANY && !seen[number]);
		HOLDS(entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN);
		seen[number] = 1;
		count++;
	}
	HOLDS(count == MANY);
	rewinddir(directory);
	int again = 0;
	while ((entry = readdir(directory)) != NULL)
		again += entry->d_name[0] != '.';
	HOLDS(again == MANY);
	closedir(directory);
}

/* As `rm -r` does it: what is read is removed at once, in small reads. None is left out. */
static void remove_while_reading(void)
{
	char small[512];
	int removed = 0;

	MUST(mkdir("d", 0755));
	MUST(chdir("d"));
	make_many();
	int fd = MUST(open(".", O_RDONLY | O_DIRECTORY));
	for (;;) {
		long got = MUST(syscall(SYS_getdents64, fd, small, sizeof small));
		if (got == 0)
			break;
		for (long at = 0; at < got;) {
			struct dirent *entry = (struct dirent *)(small + at);
			if (entry->d_name[0] != '.') {
				MUST(unlink(entry->d_name));
				removed++;
			}
			at += entry->d_reclen;
		}
	}
	MUST(close(fd));
	HOLDS(removed == MANY);
	MUST(chdir(".."));
	MUST(rmdir("d"));
}

/* -- attributes -- */

static void permissions(void)
{
	struct stat st;

	put("f", "");
	MUST(chmod("f", 0600));
	MUST(stat("f", &st));
	HOLDS((st.st_mode & 07777) == 0600);
	MUST(mkdir("d", 0700));
	MUST(stat("d", &st));
	HOLDS(S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0700);
	MUST(chown("f", st.st_uid, st.st_gid));
}

/* These are refused, or nothing comes of them: such a file would lend the server's authority, or be another's. */
static void no_set_user_id(void)
{
	struct stat before, after;
	char path[600];

	put("f", "");
	snprintf(path, sizeof path, "%s/f", other_mount);
	MUST(stat(path, &before));
	(void)!chmod("f", 04755);
	(void)!chown("f", before.st_uid + 12345, before.st_gid + 12345);
	MUST(stat(path, &after));
	HOLDS(!(after.st_mode & S_ISUID) && after.st_uid == before.st_uid && after.st_gid == before.st_gid);
}

static void times_in_seconds(void)
{
	struct timespec when[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1100000000}};
	struct stat st;

	put("f", "");
	MUST(utimensat(AT_FDCWD, "f", when, 0));
	MUST(stat("f", &st));
	HOLDS(st.st_atime == 1000000000 && st.st_mtime == 1100000000);
	when[0].tv_nsec = UTIME_OMIT;
	when[1].tv_nsec = UTIME_NOW;
	MUST(utimensat(AT_FDCWD, "f", when, 0));
	MUST(stat("f", &st));
	HOLDS(st.st_atime == 1000000000 && st.st_mtime > 1500000000);
}

static void times_in_nanoseconds(void)
{
	struct timespec when[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	struct stat st;

	put("f", "");
	MUST(utimensat(AT_FDCWD, "f", when, 0));
	MUST(stat("f", &st));
	HOLDS(st.st_atim.tv_nsec == 123456789 && st.st_mtim.tv_nsec == 987654321);
}

static void space(void)
{
	struct statfs found;

	MUST(statfs(".", &found));
	HOLDS(found.f_bsize > 0 && found.f_blocks > 0 && found.f_bavail <= found.f_blocks);
	HOLDS(found.f_namelen == 255);
}

static void extended_attributes(void)
{
	put("f", "");
	FAILS(getxattr("f", "user.x", buffer, 100), ENODATA);
	MUST(setxattr("f", "user.x", "value", 5, 0));
	HOLDS(getxattr("f", "user.x", NULL, 0) == 5);
	HOLDS(getxattr("f", "user.x", buffer, 100) == 5 && memcmp(buffer, "value", 5) == 0);
	FAILS(getxattr("f", "user.x", buffer, 2), ERANGE);
	FAILS(setxattr("f", "user.x", "other", 5, XATTR_CREATE), EEXIST);
	FAILS(setxattr("f", "user.y", "other", 5, XATTR_REPLACE), ENODATA);
	MUST(setxattr("f", "user.y", "", 0, 0));
	HOLDS(listxattr("f", buffer, 100) == 14);
	MUST(removexattr("f", "user.x"));
	FAILS(removexattr("f", "user.x"), ENODATA);
	HOLDS(listxattr("f", buffer, 100) == 7 && memcmp(buffer, "user.y", 7) == 0);
	FAILS(setxattr("f", "trusted.x", "v", 1, 0), EOPNOTSUPP);
	MUST(mkdir("d", 0755));
	MUST(setxattr("d", "user.dir", "v", 1, 0));
	HOLDS(getxattr("d", "user.dir", buffer, 100) == 1);
}

/* -- locks -- */

static int lock(int fd, int command, short type, off_t start, off_t length)
{
	struct flock wanted = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	return fcntl(fd, command, &wanted);
}

static int open_at_the_other(void)
{
	char path[600];

	snprintf(path, sizeof path, "%s/f", other_mount);
	return MUST(open(path, O_RDWR));
}

/* Another process, by another connection, finds the range locked, and is told by whom it is. */
static void lock_between_clients(void)
{
	struct flock asked = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};

	put("f", "0123456789");
	int one = MUST(open("f", O_RDWR)), two = open_at_the_other();
	MUST(lock(one, F_SETLK, F_WRLCK, 2, 3));
	FAILS(lock(two, F_SETLK, F_WRLCK, 4, 1), EAGAIN);
	FAILS(lock(two, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
	MUST(lock(two, F_SETLK, F_WRLCK, 5, 10));
	MUST(lock(two, F_SETLK, F_UNLCK, 5, 10));
	MUST(fcntl(two, F_GETLK, &asked));
	HOLDS(asked.l_type == F_WRLCK && asked.l_start == 2 && asked.l_len == 3);
	MUST(lock(one, F_SETLK, F_UNLCK, 2, 3));
	MUST(lock(two, F_SETLK, F_WRLCK, 4, 1));
	MUST(close(two));
	MUST(lock(one, F_SETLK, F_WRLCK, 0, 0));
	MUST(close(one));
}

/* One that waits has the lock as soon as the other is gone. */
static void lock_waits(void)
{
	int ready[2];
	char byte;

	put("f", "0");
	MUST(pipe(ready));
	int one = MUST(open("f", O_RDWR));
	MUST(lock(one, F_SETLK, F_WRLCK, 0, 1));
	pid_t pid = MUST(fork());
	if (pid == 0) {
		int two = open_at_the_other();
		if (lock(two, F_SETLK, F_WRLCK, 0, 1) == 0 || write(ready[1], "w", 1) != 1)
			_exit(1);
		_exit(lock(two, F_SETLKW, F_WRLCK, 0, 1) != 0 || pread(two, &byte, 1, 0) != 1 || byte != '1');
	}
	MUST(close(ready[1]));
	HOLDS(read(ready[0], &byte, 1) == 1);
	HOLDS(pwrite(one, "1", 1, 0) == 1);
	MUST(lock(one, F_SETLK, F_UNLCK, 0, 1));
	joined(pid);
	MUST(close(one));
}

/* Returns when the process waits for a server's answer. */
static void waits_for_an_answer(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/wchan", pid);
	do {
		usleep(10000);
		int fd = MUST(open(path, O_RDONLY));
		ssize_t got = MUST(read(fd, buffer, 100));
		MUST(close(fd));
		buffer[got] = 0;
	} while (strncmp(buffer, "p9_client", 9) != 0);
}

/* One that waits for a lock and is killed: its request is flushed, and it does not have the lock afterwards. */
static void lock_given_up(void)
{
	int status;

	put("f", "0");
	int one = MUST(open("f", O_RDWR)), two = open_at_the_other();
	MUST(lock(one, F_SETLK, F_WRLCK, 0, 1));
	FAILS(lock(two, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
	pid_t pid = MUST(fork());
	if (pid == 0)
		_exit(lock(two, F_SETLKW, F_WRLCK, 0, 1) != 0);
	waits_for_an_answer(pid);
	MUST(kill(pid, SIGKILL));
	HOLDS(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	MUST(lock(one, F_SETLK, F_UNLCK, 0, 1));
	MUST(lock(two, F_SETLK, F_WRLCK, 0, 1));
	FAILS(lock(one, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
	MUST(close(two));
	MUST(close(one));
}

/* flock(2), which Linux asks the server as a lock of the whole file. */
static void lock_whole_files(void)
{
	put("f", "0");
	int one = MUST(open("f", O_RDWR)), two = open_at_the_other();
	MUST(flock(one, LOCK_EX));
	FAILS(flock(two, LOCK_EX | LOCK_NB), EAGAIN);
	MUST(flock(one, LOCK_UN));
	MUST(flock(two, LOCK_EX | LOCK_NB));
	MUST(close(one));
	MUST(close(two));
}

/* -- together -- */

static void several_at_once(void)
{
	pid_t pids[4];
	char name[20], other[20];

	for (int who = 0; who < 4; who++) {
		pids[who] = MUST(fork());
		if (pids[who] != 0)
			continue;
		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof name, "%d-%d", who, i);
			snprintf(other, sizeof other, "%d+%d", who, i);
			put(name, name);
			has(name, name);
			MUST(rename(name, other));
			has(other, name);
			MUST(unlink(other));
		}
		_exit(0);
	}
	for (int who = 0; who < 4; who++)
		joined(pids[who]);
}

static void usual_tools(void)
{
	run("mkdir -p a/b/c; for i in 1 2 3 4 5 6 7 8 9; do echo $i >a/b/$i; done; seq 1 5000 >a/b/c/many;"
	    "cp -r a copy; diff -r a copy; tar cf t.tar a; mkdir out; tar xf t.tar -C out; diff -r a out/a;"
	    "[ $(find out -type f | wc -l) = 10 ]; [ $(grep -rl 5 a/b | wc -l) = 2 ];"
	    "mv a/b/c/many a/b/c/moved; mv a/b/c .; [ $(wc -l <c/moved) = 5000 ];"
	    "dd if=c/moved of=part bs=1k skip=3 count=4 2>/dev/null; [ $(stat -c %s part) = 4096 ];"
	    "rm -r a copy out t.tar c part; [ -z \"$(ls)\" ]");
}

const struct check checks[] = {
	{"create-write-read", create_write_read},
	{"exclusive", exclusive},
	{"append", append},
	{"append-from-two-clients", append_from_two_clients},
	{"truncate", truncating},
	{"sparse", sparse},
	{"many-open", many_open},
	{"sync", syncing},
	{"sync-directory", sync_directory},
	{"map-private", map_private},
	{"execute", executing},
	{"unlink-while-open", unlink_while_open},
	{"rename", rename_in_its_directory},
	{"rename-over-an-open-file", rename_over_an_open_file},
	{"rename-while-open", rename_while_open},
	{"rename-to-another-directory", rename_to_another_directory},
	{"remove", removing},
	{"hard-link", hard_link},
	{"rename-of-a-hard-link", rename_of_a_hard_link},
	{"symbolic-link", symbolic_link},
	{"pipe", pipe_by_name},
	{"socket", socket_by_name},
	{"no-device", no_device},
	{"deep-path", deep_path},
	{"long-names", long_names},
	{"large-directory", read_a_large_directory},
	{"remove-while-reading", remove_while_reading},
	{"permissions", permissions},
	{"no-set-user-id", no_set_user_id},
	{"times", times_in_seconds},
	{"nanoseconds", times_in_nanoseconds},
	{"statfs", space},
	{"attributes", extended_attributes},
	{"lock", lock_between_clients},
	{"lock-waits", lock_waits},
	{"lock-given-up", lock_given_up},
	{"flock", lock_whole_files},
	{"several-at-once", several_at_once},
	{"tools", usual_tools},
	{NULL, NULL},
};

const struct check shared_checks[] = {
	{"create-write-read", create_write_read},
	{"map-private", map_private},
	{"map-shared", map_shared},
	{"execute", executing},
	{NULL, NULL},
};

/* -- what `cognu listen` serves -- */

static void only_read(void)
{
	int count = 0;
	struct dirent *entry;

	has("text", "near and far\n");
	has("deep/leaf", "leaf\n");
	DIR *directory = opendir(".");
	HOLDS(directory != NULL);
	while ((entry = readdir(directory)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(directory);
	HOLDS(count == 2);
}

static void nothing_changed(void)
{
	FAILS(open("text", O_WRONLY), EACCES);
	FAILS(open("new", O_CREAT | O_WRONLY, 0644), EACCES);
	FAILS(mkdir("new", 0755), EACCES);
	FAILS(unlink("text"), EACCES);
	FAILS(rename("text", "other"), EACCES);
	FAILS(truncate("text", 0), EACCES);
	FAILS(chmod("text", 0777), EACCES);
	FAILS(symlink("text", "link"), EACCES);
	FAILS(link("text", "link"), EACCES);
	FAILS(setxattr("text", "user.x", "v", 1, 0), EACCES);
	has("text", "near and far\n");
}

const struct check only_read_checks[] = {
	{"read", only_read},
	{"change-nothing", nothing_changed},
	{NULL, NULL},
};
