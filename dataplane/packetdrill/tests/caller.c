/* A C program that uses the shared object as packetdrill does: loads it, asks for the table, and
 * plays one script by hand. Argument: the path of the object, and the name of a part.
 * The structure is written down again here, on purpose: it must match, not be shared. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <unistd.h>

struct table {
	void *u;
	void (*free)(void *);
	int (*socket)(void *, int, int, int);
	int (*bind)(void *, int, const struct sockaddr *, socklen_t);
	int (*listen)(void *, int, int);
	int (*accept)(void *, int, struct sockaddr *, socklen_t *);
	int (*connect)(void *, int, const struct sockaddr *, socklen_t);
	ssize_t (*read)(void *, int, void *, size_t);
	ssize_t (*readv)(void *, int, const struct iovec *, int);
	ssize_t (*recv)(void *, int, void *, size_t, int);
	ssize_t (*recvfrom)(void *, int, void *, size_t, int, struct sockaddr *, socklen_t *);
	ssize_t (*recvmsg)(void *, int, struct msghdr *, int);
	ssize_t (*write)(void *, int, const void *, size_t);
	ssize_t (*writev)(void *, int, const struct iovec *, int);
	ssize_t (*send)(void *, int, const void *, size_t, int);
	ssize_t (*sendto)(void *, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t (*sendmsg)(void *, int, const struct msghdr *, int);
	int (*fcntl)(void *, int, int, ...);
	int (*ioctl)(void *, int, unsigned long, ...);
	int (*close)(void *, int);
	int (*shutdown)(void *, int, int);
	int (*getsockopt)(void *, int, int, int, void *, socklen_t *);
	int (*setsockopt)(void *, int, int, int, const void *, socklen_t);
	int (*poll)(void *, struct pollfd *, nfds_t, int);
	int (*netdev_send)(void *, const void *, size_t);
	int (*netdev_receive)(void *, void *, size_t *, long long *);
	int (*usleep)(void *, useconds_t);
	int (*gettimeofday)(void *, struct timeval *, struct timezone *);
	int (*epoll_create)(void *, int);
	int (*epoll_ctl)(void *, int, int, int, struct epoll_event *);
	int (*epoll_wait)(void *, int, struct epoll_event *, int, int);
	int (*pipe)(void *, int[2]);
	ssize_t (*splice)(void *, int, loff_t *, int, loff_t *, size_t, unsigned int);
};

static struct table t;

#define MUST(what)                                                                        \
	do {                                                                              \
		if (!(what)) {                                                            \
			printf("%s:%d: %s (errno %d)\n", __func__, __LINE__, #what, errno); \
			exit(1);                                                          \
		}                                                                         \
	} while (0)
#define FAILS(call, number)                      \
	do {                                     \
		errno = 0;                       \
		MUST((call) == -1 && errno == number); \
	} while (0)

static long long now(void)
{
	struct timeval tv;
	MUST(t.gettimeofday(t.u, &tv, NULL) == 0);
	return tv.tv_sec * 1000000LL + tv.tv_usec;
}

static uint32_t sum(const uint8_t *bytes, size_t count, uint32_t from)
{
	for (size_t i = 0; i < count; i++)
		from += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return from;
}

static uint16_t folded(uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

/* What the peer knows of the connection. */
static uint32_t peer_seq, peer_ack;
static const uint8_t ours[4] = {192, 168, 0, 1}, theirs[4] = {192, 0, 2, 1};

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/* One segment of the peer, from port 40000 to port 8080. */
static void peer_sends(uint8_t flags, size_t count)
{
	uint8_t packet[1500] = {0};
	size_t whole = 40 + count;
	packet[0] = 0x45;
	put16(packet + 2, whole);
	packet[8] = 64;
	packet[9] = 6;
	memcpy(packet + 12, theirs, 4);
	memcpy(packet + 16, ours, 4);
	put16(packet + 10, folded(sum(packet, 20, 0)));
	put16(packet + 20, 40000);
	put16(packet + 22, 8080);
	put32(packet + 24, peer_seq);
	put32(packet + 28, peer_ack);
	packet[32] = 0x50;
	packet[33] = flags;
	put16(packet + 34, 32792);
	for (size_t i = 0; i < count; i++)
		packet[40 + i] = 'a' + i % 26;
	uint32_t total = sum(packet + 12, 8, 6 + 20 + count);
	put16(packet + 36, folded(sum(packet + 20, 20 + count, total)));
	MUST(t.netdev_send(t.u, packet, whole) == 0);
	peer_seq += count + !!(flags & 3);
}

static uint8_t left[70000];

/* The next packet of the stack; how many bytes of payload it has. */
static int stack_sends(uint8_t flags, long long *when)
{
	size_t count = sizeof(left);
	MUST(t.netdev_receive(t.u, left, &count, when) == 0);
	MUST(count >= 40);
	uint32_t total = sum(left + 12, 8, 6 + count - 20);
	MUST(folded(sum(left, 20, 0)) == 0 && folded(sum(left + 20, count - 20, total)) == 0);
	MUST(left[33] == flags);
	int payload = (int)count - 20 - (left[32] >> 4) * 4;
	peer_ack = get32(left + 24) + payload + !!(flags & 3);
	return payload;
}

static int listener(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
	memcpy(&at.sin_addr, ours, 4);
	int fd = t.socket(t.u, AF_INET, SOCK_STREAM, IPPROTO_TCP);
	MUST(fd >= 10000);
	MUST(t.bind(t.u, fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	MUST(t.listen(t.u, fd, 1) == 0);
	return fd;
}

/* A connection that the peer opens. */
static int connection(int fd)
{
	long long when;
	peer_seq = 1000;
	peer_ack = 0;
	peer_sends(0x02, 0);
	long long before = now();
	MUST(stack_sends(0x12, &when) == 0);
	MUST(when < before && get32(left + 28) == 1001);
	peer_sends(0x10, 0);
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	int accepted = t.accept(t.u, fd, (struct sockaddr *)&peer, &len);
	MUST(accepted > fd && len == sizeof(peer) && peer.sin_port == htons(40000));
	MUST(memcmp(&peer.sin_addr, theirs, 4) == 0);
	return accepted;
}

static void time_is_virtual(void)
{
	long long start = now();
	MUST(now() > start);
	MUST(t.usleep(t.u, 3600u * 1000000u) == 0);
	long long slept = now() - start;
	MUST(slept >= 3600000020LL && slept < 3600000040LL);
	struct pollfd none = {.fd = -1};
	start = now();
	MUST(t.poll(t.u, &none, 1, 250) == 0);
	slept = now() - start;
	MUST(slept >= 250000 && slept < 250010);
	/* Silence ends, with nothing. */
	size_t count = sizeof(left);
	long long when;
	MUST(t.netdev_receive(t.u, left, &count, &when) == 0 && count == 0);
}

static void a_session(void)
{
	char text[100];
	long long when;
	int fd = listener(), c = connection(fd);
	MUST(t.fcntl(t.u, c, F_SETFL, t.fcntl(t.u, c, F_GETFL) | O_NONBLOCK) == 0);
	FAILS(t.read(t.u, c, text, 100), EAGAIN);
	peer_sends(0x18, 10);
	struct iovec parts[2] = {{text, 4}, {text + 50, 50}};
	MUST(t.readv(t.u, c, parts, 2) == 10);
	MUST(memcmp(text, "abcd", 4) == 0 && memcmp(text + 50, "efghij", 6) == 0);
	/* The first data of a connection are acknowledged at once. */
	MUST(stack_sends(0x10, &when) == 0 && get32(left + 28) == peer_seq);
	MUST(t.write(t.u, c, "hello", 5) == 5);
	MUST(stack_sends(0x18, &when) == 5 && memcmp(left + 40, "hello", 5) == 0);
	int outstanding = 0;
	MUST(t.ioctl(t.u, c, 0x5411ul, &outstanding) == 0 && outstanding == 5);
	/* Nobody acknowledges: it is sent again, later. */
	long long first = when;
	MUST(stack_sends(0x18, &when) == 5 && when - first >= 10000);
	peer_sends(0x10, 0);
	struct tcp_info info;
	socklen_t len = sizeof(info);
	MUST(t.getsockopt(t.u, c, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	MUST(len == sizeof(info) && info.tcpi_state == TCP_ESTABLISHED && info.tcpi_total_retrans >= 1);
	struct linger linger = {0, 0};
	MUST(t.setsockopt(t.u, c, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
	MUST(t.close(t.u, c) == 0);
	MUST(stack_sends(0x11, &when) == 0);
	peer_sends(0x11, 0);
	MUST(stack_sends(0x10, &when) == 0 && get32(left + 28) == peer_seq);
	FAILS(t.read(t.u, c, text, 1), EBADF);
	/* A descriptor has a place in the kernel's table too. */
	MUST(close(fd) == 0);
}

static volatile pid_t sleeper;

static void *reader(void *fd)
{
	static long long back[2];
	char text[100];
	sleeper = syscall(SYS_gettid);
	back[1] = t.read(t.u, *(int *)fd, text, sizeof(text));
	back[0] = now();
	return back;
}

static char state_of(pid_t thread)
{
	char path[64], text[256] = "";
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
	FILE *file = fopen(path, "r");
	if (file == NULL || fgets(text, sizeof(text), file) == NULL)
		return '?';
	fclose(file);
	return strrchr(text, ')')[2];
}

static void blocked_calls_sleep(void)
{
	int fd = listener(), c = connection(fd);
	pthread_t thread;
	long long *back;
	MUST(pthread_create(&thread, NULL, reader, &c) == 0);
	while (sleeper == 0 || state_of(sleeper) != 'S')
		usleep(100);
	MUST(t.usleep(t.u, 300000) == 0);
	long long then = now();
	peer_sends(0x18, 7);
	MUST(t.usleep(t.u, 300000) == 0);
	MUST(pthread_join(thread, (void **)&back) == 0);
	MUST(back[1] == 7 && back[0] >= then && back[0] - then < 10);
	/* A call in the only thread that could move the time moves it. */
	struct timeval patience = {.tv_sec = 2};
	MUST(t.setsockopt(t.u, c, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
	char byte;
	then = now();
	FAILS(t.read(t.u, c, &byte, 1), EAGAIN);
	MUST(now() - then >= 2000000 && now() - then < 2000010);
	/* And so does one in another thread while this one waits for it. */
	then = now();
	sleeper = 0;
	MUST(pthread_create(&thread, NULL, reader, &c) == 0);
	MUST(pthread_join(thread, (void **)&back) == 0);
	MUST(back[1] == -1 && back[0] - then >= 2000000 && back[0] - then < 2000010);
}

static void bad_arguments_are_errors(void)
{
	char text[16];
	void *nowhere = (void *)0x10;
	int fd = listener(), c = connection(fd);
	socklen_t len = sizeof(text), negative = -1;
	FAILS(t.socket(t.u, AF_UNIX, SOCK_STREAM, 0), EAFNOSUPPORT);
	FAILS(t.bind(t.u, c, NULL, 16), EFAULT);
	FAILS(t.bind(t.u, c, nowhere, 16), EFAULT);
	FAILS(t.bind(t.u, c, (struct sockaddr *)left, 4000), EINVAL);
	FAILS(t.bind(t.u, 3, NULL, 16), EBADF);
	FAILS(t.write(t.u, c, NULL, 5), EFAULT);
	FAILS(t.write(t.u, c, nowhere, 5), EFAULT);
	FAILS(t.writev(t.u, c, nowhere, 2), EFAULT);
	FAILS(t.writev(t.u, c, nowhere, -1), EINVAL);
	FAILS(t.writev(t.u, c, nowhere, 1025), EINVAL);
	FAILS(t.sendmsg(t.u, c, NULL, 0), EFAULT);
	FAILS(t.recvmsg(t.u, c, nowhere, 0), EFAULT);
	peer_sends(0x18, 4);
	FAILS(t.read(t.u, c, NULL, 5), EFAULT);
	MUST(t.read(t.u, c, text, 5) == 4);
	FAILS(t.getsockopt(t.u, c, SOL_SOCKET, SO_TYPE, text, NULL), EFAULT);
	FAILS(t.getsockopt(t.u, c, SOL_SOCKET, SO_TYPE, nowhere, &len), EFAULT);
	FAILS(t.getsockopt(t.u, c, SOL_SOCKET, SO_TYPE, text, &negative), EINVAL);
	FAILS(t.setsockopt(t.u, c, IPPROTO_TCP, TCP_NODELAY, NULL, 4), EFAULT);
	FAILS(t.setsockopt(t.u, c, IPPROTO_TCP, TCP_NODELAY, text, (socklen_t)-1), EINVAL);
	FAILS(t.ioctl(t.u, c, 0x541Bul, NULL), EFAULT);
	FAILS(t.ioctl(t.u, c, 0x1234ul, text), ENOTTY);
	FAILS(t.poll(t.u, nowhere, 1, 0), EFAULT);
	FAILS(t.epoll_create(t.u, 0), EINVAL);
	FAILS(t.pipe(t.u, NULL), EFAULT);
	FAILS(t.netdev_send(t.u, nowhere, 40), EFAULT);
	FAILS(t.close(t.u, -1), EBADF);
	FAILS(t.close(NULL, c), EBADF);
	/* What is not an IP packet is dropped, without a word. */
	MUST(t.netdev_send(t.u, "garbage", 7) == 0 && t.netdev_send(t.u, "", 0) == 0);
}

static void structures_are_filled_in(void)
{
	int fd = listener(), c = connection(fd), one = 1;
	char text[64];
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788ull}, found[2];
	int set = t.epoll_create(t.u, 1);
	MUST(set >= 0 && t.epoll_ctl(t.u, set, EPOLL_CTL_ADD, c, &event) == 0);
	MUST(t.setsockopt(t.u, c, IPPROTO_TCP, TCP_INQ, &one, sizeof(one)) == 0);
	peer_sends(0x18, 20);
	MUST(t.epoll_wait(t.u, set, found, 2, 0) == 1);
	MUST(found[0].events == EPOLLIN && found[0].data.u64 == 0x1122334455667788ull);
	struct pollfd fds[2] = {{.fd = -1}, {.fd = c, .events = POLLIN | POLLOUT}};
	MUST(t.poll(t.u, fds, 2, -1) == 1 && fds[0].revents == 0);
	MUST(fds[1].revents == (POLLIN | POLLOUT) && fds[1].events == (POLLIN | POLLOUT));
	struct iovec part = {text, 8};
	char control[64], name[32];
	struct msghdr message = {.msg_name = name, .msg_namelen = sizeof(name), .msg_iov = &part,
				 .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof(control), .msg_flags = -1};
	MUST(t.recvmsg(t.u, c, &message, 0) == 8 && message.msg_namelen == 0);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	MUST(header != NULL && header->cmsg_level == IPPROTO_TCP && header->cmsg_type == TCP_CM_INQ);
	int rest;
	memcpy(&rest, CMSG_DATA(header), sizeof(rest));
	MUST(header->cmsg_len == CMSG_LEN(sizeof(int)) && rest == 12);
	MUST(message.msg_controllen == CMSG_SPACE(sizeof(int)) && message.msg_flags == 0);
	/* Too little room for it: it is cut, and that is said. */
	message.msg_controllen = 8;
	MUST(t.recvmsg(t.u, c, &message, 0) == 8 && message.msg_controllen == 0);
	MUST(message.msg_flags & MSG_CTRUNC);
	loff_t none = 0;
	int ends[2];
	MUST(t.pipe(t.u, ends) == 0);
	MUST(t.splice(t.u, c, &none, ends[1], &none, 100, 0) == 4);
	MUST(t.read(t.u, ends[0], text, 64) == 4 && memcmp(text, "qrst", 4) == 0);
	none = 1;
	FAILS(t.splice(t.u, c, &none, ends[1], NULL, 100, 0), ESPIPE);
}

static void preloaded_functions_serve_both(void)
{
	int fd = listener(), type = 0, kernel = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t len = sizeof(type);
	MUST(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &type, &len) == 0 && type == 1);
	MUST(getsockopt(kernel, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_DGRAM);
	struct tms usage;
	long long before = now();
	clock_t ticks = times(&usage);
	MUST(times(NULL) == ticks + 1 && now() - before > 10000 && now() - before < 30000);
	int c = connection(fd), file = memfd_create("zeros", 0);
	MUST(ftruncate(file, 100) == 0);
	off_t offset = 90;
	long long when;
	MUST(sendfile(c, file, &offset, 100) == 10 && offset == 100);
	MUST(stack_sends(0x18, &when) == 10);
	MUST(close(c) == 0 && close(kernel) == 0);
	FAILS(t.close(t.u, c), EBADF);
	FAILS(close(kernel), EBADF);
}

int main(int argc, char **argv)
{
	struct { const char *name; void (*run)(void); } parts[] = {
		{"time", time_is_virtual}, {"session", a_session}, {"blocked", blocked_calls_sleep},
		{"arguments", bad_arguments_are_errors}, {"structures", structures_are_filled_in},
		{"preloaded", preloaded_functions_serve_both},
	};
	setvbuf(stdout, NULL, _IONBF, 0);
	MUST(argc == 3);
	void *object = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | RTLD_DEEPBIND);
	if (object == NULL)
		printf("%s\n", dlerror());
	MUST(object != NULL);
	void (*init)(const char *, struct table *) = dlsym(object, "packetdrill_interface_init");
	MUST(init != NULL);
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (strcmp(argv[2], parts[i].name) != 0)
			continue;
		/* Twice: a host that was given back leaves nothing behind. */
		for (int round = 0; round < 2; round++) {
			init(round ? NULL : "mtu=1500,local=192.168.0.1", &t);
			parts[i].run();
			t.free(t.u);
			FAILS(t.socket(t.u, AF_INET, SOCK_STREAM, 0), EBADF);
		}
		return 0;
	}
	return 2;
}
