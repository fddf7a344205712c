// Package truth has decoders that are not ours decode what bridge/rfb encodes: libvncclient, with which many viewers are built, and noVNC's, beside the
// one that our tests use. Every encoding in every pixel format must give the picture that was sent: exactly, or by JPEG as like as the
// quality level promises.
package truth
