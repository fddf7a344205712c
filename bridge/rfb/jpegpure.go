//go:build !turbo

package rfb

// jpegEncoder is what an Encoder makes JPEG pictures with.
type jpegEncoder = goJPEG
