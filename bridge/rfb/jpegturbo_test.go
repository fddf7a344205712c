//go:build turbo

package rfb_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"

	"github.com/helmline/helmline/bridge/rfb"
)

// For every quality level both builds send the same tables and pictures that are alike: goJPEG is at most 0.1 dB behind libjpeg-turbo
// and 0.4 dB ahead, and photographs are 42 dB from each other, which no eye sees; noise at the lowest levels is 29 dB.
func TestTurbo(t *testing.T) {
	r := image.Rect(0, 0, 320, 200)
	slow, fast := rfb.NewGoJPEG(), rfb.NewJPEG()
	pictures := jpegPictures(r)
	for level := range 10 {
		quality, sub := rfb.JPEGLevel(level)
		for name, least := range map[string]float64{"photo": 42, "text": 33, "mosaic": 33, "noise": 29} {
			img := pictures[name]
			a, b := rfb.AppendJPEG(slow, nil, img, r, quality, sub), rfb.AppendJPEG(fast, nil, img, r, quality, sub)
			theirs := segments(t, b)
			for marker, segment := range segments(t, a) {
				if !bytes.Equal(segment, theirs[marker]) {
					t.Errorf("level %d: the segments %x differ", level, marker)
				}
			}
			if ahead := decibel(meanSquare(t, img, r, a)) - decibel(meanSquare(t, img, r, b)); ahead < -0.1 || ahead > 0.4 {
				t.Errorf("level %d, %s: goJPEG is %.2f dB ahead", level, name, ahead)
			}
			picture, err := jpeg.Decode(bytes.NewReader(a))
			if err != nil {
				t.Fatal(err)
			}
			decoded := paint(r, func(x, y int) uint32 {
				red, green, blue, _ := picture.At(x, y).RGBA()
				return red>>8<<16 | green>>8<<8 | blue>>8
			})
			if apart := decibel(meanSquare(t, decoded, r, b)); apart < least {
				t.Errorf("level %d, %s: the pictures are %.1f dB from each other", level, name, apart)
			}
			if float64(len(a)) > 1.02*float64(len(b)) {
				t.Errorf("level %d, %s: %d bytes by goJPEG, %d by libjpeg-turbo", level, name, len(a), len(b))
			}
		}
	}
}

// What the library does not take is made by goJPEG: an image that is one row for all.
func TestTurboRow(t *testing.T) {
	img := jpegPictures(image.Rect(0, 0, 40, 30))["row"]
	a := rfb.AppendJPEG(rfb.NewGoJPEG(), nil, img, img.Rect, 80, rfb.Sub444)
	if b := rfb.AppendJPEG(rfb.NewJPEG(), nil, img, img.Rect, 80, rfb.Sub444); !bytes.Equal(a, b) {
		t.Error("a repeated row is not made by goJPEG")
	}
}
