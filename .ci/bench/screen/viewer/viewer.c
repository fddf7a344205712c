/*
 * A VNC viewer for the bench: libvncclient decodes, this program looks at the picture after every update.
 *
 *   viewer HOST PORT X Y [type=TEXT] [user=NAME password=WORD ca=FILE] [encodings=NAMES]
 *
 * X, Y is where the marker stands (marker.go). "type" is typed once the connection stands, and Return behind it. Words
 * come on standard input, answers go to descriptor 3, a line each:
 *
 *   (from itself)  ready               the marker is seen for the first time
 *   go             -                   note from now on what is seen
 *   keys           -                   the same, and press a key about ten times a second, each when the last one is seen
 *   snap FILE      snapped FILE N      write the picture after the next update, which shows marker N
 *   stop           seen N NS ...       marker N was first seen at NS of CLOCK_MONOTONIC
 *                  key NS ...          a key took so long until it was seen; -1: a second was not enough
 *                  bytes N updates N   received since go
 *   save FILE      saved FILE N        write the picture of now
 */
#include <linux/tcp.h>
#include <pthread.h>
#include <rfb/rfbclient.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CELL = 8, COLUMNS = 12, CELLS = 24, MOST = 1 << 16 };

static int marker_x, marker_y;
static const char *type_text, *user, *password, *ca;
static const char *encodings = "tight copyrect raw";
static FILE *out;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t changed;
static int marker = -1;                /* as last seen */
static int64_t marker_at;
static int noting, typing;
static struct { int n; int64_t at; } seen[MOST];
static int64_t keys[MOST];
static int seen_count, key_count;
static uint64_t bytes_before, updates, updates_before;
static char snap[4096];

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* look reads the marker, -1 when none is there. */
static int look(rfbClient *c) {
	int bit[CELLS], n = 0, check = 0, i;
	if (marker_x + COLUMNS * CELL > c->width || marker_y + 2 * CELL > c->height) return -1;
	for (i = 0; i < CELLS; i++) {
		int x = marker_x + i % COLUMNS * CELL + CELL / 2, y = marker_y + i / COLUMNS * CELL + CELL / 2;
		int green = c->frameBuffer[4 * (y * c->width + x) + 1];
		if (green > 64 && green < 192) return -1;
		bit[i] = green >= 192;
	}
	for (i = 2; i < 18; i++) n = n << 1 | bit[i];
	for (i = 18; i < 22; i++) check = check << 1 | bit[i];
	if (!bit[0] || bit[1] || bit[22] || !bit[23] || check != ((n ^ n >> 4 ^ n >> 8 ^ n >> 12 ^ 5) & 15)) return -1;
	return n;
}

static void write_picture(rfbClient *c, const char *path) {
	FILE *f = fopen(path, "w");
	if (f == NULL || fwrite(c->frameBuffer, 4, (size_t)c->width * c->height, f) != (size_t)c->width * c->height || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

static void finished(rfbClient *c) {
	int64_t at = now();
	int n = look(c);
	pthread_mutex_lock(&mu);
	updates++;
	if (n >= 0 && marker < 0) fprintf(out, "ready\n");
	if (n >= 0 && n != marker) {
		marker = n, marker_at = at;
		if (noting && seen_count < MOST) seen[seen_count].n = n, seen[seen_count++].at = at;
		pthread_cond_broadcast(&changed);
	}
	if (n >= 0 && snap[0]) {
		write_picture(c, snap);
		fprintf(out, "snapped %s %d\n", snap, n);
		snap[0] = 0;
	}
	pthread_mutex_unlock(&mu);
}

static uint64_t received(rfbClient *c) {
	struct tcp_info info;
	socklen_t n = sizeof info;
	memset(&info, 0, sizeof info);
	if (getsockopt(c->sock, IPPROTO_TCP, TCP_INFO, &info, &n) != 0) perror("TCP_INFO");
	return info.tcpi_bytes_received;
}

/* press presses keys while typing is set. */
static void *press(void *arg) {
	rfbClient *c = arg;
	unsigned random = 1;
	for (;;) {
		int before;
		int64_t sent;
		struct timespec pause = {0, 80000000}, limit;
		random = random * 1103515245 + 12345;
		pause.tv_nsec += (random >> 8) % 40000000;
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&mu);
		if (!typing) {
			pthread_mutex_unlock(&mu);
			continue;
		}
		before = marker;
		sent = now();
		SendKeyEvent(c, 'a' + random / 65536 % 26, TRUE);
		SendKeyEvent(c, 'a' + random / 65536 % 26, FALSE);
		limit.tv_sec = sent / 1000000000 + 1, limit.tv_nsec = sent % 1000000000;
		while (marker == before && pthread_cond_timedwait(&changed, &mu, &limit) == 0) {}
		if (typing && key_count < MOST) keys[key_count++] = marker != before ? marker_at - sent : -1;
		pthread_mutex_unlock(&mu);
	}
	return NULL;
}

/* listen_to takes what is said on standard input. */
static void *listen_to(void *arg) {
	rfbClient *c = arg;
	static char line[4200];
	int i;
	while (fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, "\n")] = 0;
		pthread_mutex_lock(&mu);
		if (!strcmp(line, "go") || !strcmp(line, "keys")) {
			noting = 1, typing = line[0] == 'k', seen_count = key_count = 0;
			bytes_before = received(c), updates_before = updates;
		} else if (!strncmp(line, "snap ", 5)) {
			strcpy(snap, line + 5);
		} else if (!strncmp(line, "save ", 5)) {
			write_picture(c, line + 5);
			fprintf(out, "saved %s %d\n", line + 5, marker);
		} else if (!strcmp(line, "stop")) {
			noting = typing = 0;
			for (i = 0; i < seen_count; i++) fprintf(out, "seen %d %lld\n", seen[i].n, (long long)seen[i].at);
			for (i = 0; i < key_count; i++) fprintf(out, "key %lld\n", (long long)keys[i]);
			fprintf(out, "bytes %llu updates %llu\n", (unsigned long long)(received(c) - bytes_before), (unsigned long long)(updates - updates_before));
		}
		pthread_mutex_unlock(&mu);
	}
	exit(0);
}

static rfbCredential *credential(rfbClient *c, int kind) {
	rfbCredential *r = calloc(1, sizeof *r);
	(void)c;
	if (kind == rfbCredentialTypeX509) {
		r->x509Credential.x509CACertFile = strdup(ca);
	} else {
		r->userCredential.username = strdup(user);
		r->userCredential.password = strdup(password);
	}
	return r;
}

/* Fences and continuous updates, which libvncclient lacks and a good viewer has. */
static int flow_encodings[] = {-312, -313, 0};

static rfbBool flow(rfbClient *c, rfbServerToClientMsg *m) {
	if (m->type == 150) { /* the server can do continuous updates: have them for the whole desktop */
		unsigned char enable[10] = {150, 1, 0, 0, 0, 0, c->width >> 8, c->width, c->height >> 8, c->height};
		return WriteToRFBServer(c, (char *)enable, sizeof enable);
	}
	if (m->type == 248) { /* a fence: answer it */
		unsigned char b[9 + 64];
		if (!ReadFromRFBServer(c, (char *)b + 1, 8) || b[8] > 64 || !ReadFromRFBServer(c, (char *)b + 9, b[8])) return FALSE;
		b[0] = 248;
		if (!(b[4] & 0x80)) return TRUE; /* an answer itself */
		b[4] = 0, b[5] = b[6] = 0, b[7] &= 7;
		return WriteToRFBServer(c, (char *)b, 9 + b[8]);
	}
	return FALSE;
}

static rfbClientProtocolExtension flow_extension = {flow_encodings, NULL, flow, NULL, NULL, NULL};

static void quiet(const char *format, ...) { (void)format; }

int main(int argc, char **argv) {
	static const uint32_t tls[] = {rfbVeNCrypt, 0};
	pthread_condattr_t monotonic;
	pthread_t t;
	rfbClient *c;
	const char *p;
	int i;
	if (argc < 5 || (out = fdopen(3, "w")) == NULL) return 2;
	setvbuf(out, NULL, _IOLBF, 0);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &monotonic);
	marker_x = atoi(argv[3]), marker_y = atoi(argv[4]);
	for (i = 5; i < argc; i++) {
		if (!strncmp(argv[i], "type=", 5)) type_text = argv[i] + 5;
		if (!strncmp(argv[i], "user=", 5)) user = argv[i] + 5;
		if (!strncmp(argv[i], "password=", 9)) password = argv[i] + 9;
		if (!strncmp(argv[i], "ca=", 3)) ca = argv[i] + 3;
		if (!strncmp(argv[i], "encodings=", 10)) encodings = argv[i] + 10;
	}
	rfbClientLog = quiet;
	rfbClientRegisterExtension(&flow_extension);
	c = rfbGetClient(8, 3, 4);
	c->format.redShift = 16, c->format.greenShift = 8, c->format.blueShift = 0; /* as the display has them */
	c->appData.encodingsString = encodings;
	c->appData.qualityLevel = 8;
	c->appData.compressLevel = -1; /* the server's choice */
	c->appData.enableJPEG = TRUE;
	c->appData.useRemoteCursor = TRUE;
	c->FinishedFrameBufferUpdate = finished;
	c->GetCredential = credential;
	c->canHandleNewFBSize = TRUE;
	free(c->serverHost);
	c->serverHost = strdup(argv[1]), c->serverPort = atoi(argv[2]);
	if (ca != NULL) SetClientAuthSchemes(c, tls, -1);
	if (!rfbInitClient(c, NULL, NULL)) return 1; /* it has freed c */
	/* The pointer stays where the stage has put it. TigerVNC's servers draw it into the picture when it is where the viewer has not been. */
	SendPointerEvent(c, c->width - 8, c->height - 8, 0);
	for (p = type_text; p != NULL && *p; p++) {
		SendKeyEvent(c, *p, TRUE);
		SendKeyEvent(c, *p, FALSE);
	}
	if (type_text != NULL) {
		SendKeyEvent(c, 0xff0d, TRUE); /* Return */
		SendKeyEvent(c, 0xff0d, FALSE);
	}
	pthread_create(&t, NULL, listen_to, c);
	pthread_create(&t, NULL, press, c);
	while (HandleRFBServerMessage(c)) {}
	fprintf(stderr, "viewer: the connection has ended\n");
	return 1;
}
