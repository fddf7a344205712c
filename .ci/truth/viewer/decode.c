/*
 * A VNC viewer that shows nothing: libvncclient decodes until the server ends the connection, then the picture goes to standard output
 * as it lies in memory.
 *
 *   decode PORT CODE ENCODINGS QUALITY COMPRESS BITS DEPTH BIG RMAX GMAX BMAX RSHIFT GSHIFT BSHIFT
 *
 * QUALITY -1: no JPEG.
 */
#include <rfb/rfbclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *code;

static char *get_password(rfbClient *c) {
	(void)c;
	return strdup(code);
}

int main(int argc, char **argv) {
	int a[12], i;
	if (argc != 15) return 2;
	code = argv[2];
	for (i = 0; i < 11; i++) a[i] = atoi(argv[4 + i]);
	rfbClient *c = rfbGetClient(8, 3, a[2] / 8);
	c->GetPassword = get_password;
	c->serverHost = strdup("127.0.0.1");
	c->serverPort = atoi(argv[1]);
	c->appData.encodingsString = argv[3];
	c->appData.enableJPEG = a[0] >= 0;
	c->appData.qualityLevel = a[0] >= 0 ? a[0] : 0;
	c->appData.compressLevel = a[1];
	c->format.bitsPerPixel = a[2];
	c->format.depth = a[3];
	c->format.bigEndian = a[4];
	c->format.trueColour = 1;
	c->format.redMax = a[5], c->format.greenMax = a[6], c->format.blueMax = a[7];
	c->format.redShift = a[8], c->format.greenShift = a[9], c->format.blueShift = a[10];
	if (!rfbInitClient(c, NULL, NULL)) return 1;
	for (;;) {
		int n = WaitForMessage(c, 20000000);
		if (n <= 0) {
			fprintf(stderr, "the server is silent\n");
			return 1;
		}
		if (!HandleRFBServerMessage(c)) break;
	}
	size_t size = (size_t)c->width * c->height;
	return fwrite(c->frameBuffer, a[2] / 8, size, stdout) != size;
}
