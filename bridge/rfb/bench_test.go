package rfb_test

import (
	"image"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// benchPictures are what desktops are made of, 1280×720.
func benchPictures() map[string]frame.Image {
	r := image.Rect(0, 0, 1280, 720)
	return map[string]frame.Image{
		"text": paint(r, text), "photo": paint(r, photograph(1)), "mosaic": paint(r, mosaic(1)),
		"flat": paint(r, func(int, int) uint32 { return 0x336699 }),
	}
}

// BenchmarkLossless encodes a picture again and again into one batch. It must not allocate.
func BenchmarkLossless(b *testing.B) {
	pictures := benchPictures()
	for _, encoding := range []string{"Raw", "RRE", "Hextile", "zlib", "Tight", "ZRLE"} {
		for _, format := range []string{"native", "565 BE"} {
			for _, content := range []string{"text", "photo", "flat"} {
				b.Run(encoding+"/"+format+"/"+content, func(b *testing.B) {
					var e rfb.Encoder
					var batch rfb.Batch
					img := pictures[content]
					rects := []image.Rectangle{img.Rect}
					p := rfb.Params{Encoding: encodings[encoding], Format: formats()[format], Quality: -1, Compress: -1}
					e.Append(&batch, p, img, rects)
					b.SetBytes(int64(len(img.Pix)))
					b.ReportAllocs()
					for b.Loop() {
						batch.Reset()
						e.Append(&batch, p, img, rects)
					}
					b.ReportMetric(float64(len(batch.Bytes)), "out/op")
				})
			}
		}
	}
}

func BenchmarkJPEG(b *testing.B) {
	img := benchPictures()["photo"]
	var e rfb.Encoder
	var batch rfb.Batch
	b.SetBytes(int64(len(img.Pix)))
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		e.Append(&batch, rfb.Params{Encoding: rfb.Tight, Format: rfb.Native, Quality: 8, Compress: -1}, img, []image.Rectangle{img.Rect})
	}
	b.ReportMetric(float64(len(batch.Bytes)), "out/op")
}

// A small change, as typing makes it.
func BenchmarkTyping(b *testing.B) {
	img := benchPictures()["text"]
	for name, encoding := range encodings {
		b.Run(name, func(b *testing.B) {
			var e rfb.Encoder
			var batch rfb.Batch
			rects := []image.Rectangle{image.Rect(320, 320, 352, 336)}
			b.ReportAllocs()
			for b.Loop() {
				batch.Reset()
				e.Append(&batch, rfb.Params{Encoding: encoding, Format: rfb.Native, Quality: 8, Compress: -1}, img, rects)
			}
			b.ReportMetric(float64(len(batch.Bytes)), "out/op")
		})
	}
}

// Encoding takes no memory once the encoder and the batch have grown.
func TestNoAllocation(t *testing.T) {
	img := paint(image.Rect(0, 0, 400, 200), mosaic(1))
	rects := []image.Rectangle{image.Rect(0, 0, 200, 200), image.Rect(200, 17, 400, 190)}
	for name, encoding := range encodings {
		for _, formatName := range []string{"native", "RGBX BE", "32 spread", "565 BE", "map"} {
			for _, quality := range []int8{-1, 3, 8} {
				var e rfb.Encoder
				var b rfb.Batch
				p := rfb.Params{Encoding: encoding, Format: formats()[formatName], Quality: quality, Compress: -1}
				e.Append(&b, p, img, rects)
				n := testing.AllocsPerRun(5, func() {
					b.Reset()
					e.Append(&b, p, img, rects)
				})
				if n > 0 {
					t.Errorf("%s, %s, quality %d: %v allocations", name, formatName, quality, n)
				}
			}
		}
	}
}
