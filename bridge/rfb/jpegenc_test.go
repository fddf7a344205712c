package rfb_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

var subsamplings = map[string]rfb.Subsampling{"4:4:4": rfb.Sub444, "4:2:2": rfb.Sub422, "4:2:0": rfb.Sub420}

// jpegPictures are what an encoder may meet, and the worst of it.
func jpegPictures(r image.Rectangle) map[string]frame.Image {
	return map[string]frame.Image{
		"photo": paint(r, photograph(1)), "noise": paint(r, noise(2)), "text": paint(r, text), "mosaic": paint(r, mosaic(3)),
		"white": paint(r, func(int, int) uint32 { return 0xffffff }),
		// Largest differences of means, frequencies and colours.
		"tiles":   paint(r, func(x, y int) uint32 { return uint32((x/8+y/8)%2) * 0xffffff }),
		"stripes": paint(r, func(x, _ int) uint32 { return uint32(x%2) * 0xffffff }),
		"checker": paint(r, func(x, y int) uint32 { return uint32((x+y)%2) * 0xffffff }),
		"colours": paint(r, func(x, y int) uint32 { return []uint32{0xff0000, 0x00ff00, 0x0000ff, 0xffff00}[(x/8+y/8)%4] }),
		"row":     {Pix: paint(r, mosaic(4)).Pix, Rect: r}, // Stride 0
	}
}

// meanSquare is the mean square of what a JPEG picture is off.
func meanSquare(t testing.TB, img frame.Image, r image.Rectangle, coded []byte) float64 {
	t.Helper()
	picture, err := jpeg.Decode(bytes.NewReader(coded))
	if err != nil {
		t.Fatal(err)
	}
	if picture.Bounds().Size() != r.Size() {
		t.Fatalf("a picture of %v became one of %v", r.Size(), picture.Bounds().Size())
	}
	planes := picture.(*image.YCbCr)
	var sum float64
	for y := range r.Dy() {
		row := img.Row(r.Min.Y+y, r.Min.X, r.Max.X)
		for x := range r.Dx() {
			at := planes.COffset(x, y)
			red, green, blue := color.YCbCrToRGB(planes.Y[planes.YOffset(x, y)], planes.Cb[at], planes.Cr[at])
			for i, v := range []byte{blue, green, red} {
				d := float64(row[4*x+i]) - float64(v)
				sum += d * d
			}
		}
	}
	return sum / float64(3*r.Dx()*r.Dy())
}

func decibel(meanSquare float64) float64 { return 10 * math.Log10(255*255/meanSquare) }

// A library is image/jpeg, with which ours is compared. It makes 4:2:0 alone.
type library struct {
	planes  image.YCbCr
	out     bytes.Buffer
	options jpeg.Options
}

func (l *library) encode(img frame.Image, r image.Rectangle, quality int) []byte {
	w, h := r.Dx(), r.Dy()
	if l.planes.Rect != image.Rect(0, 0, w, h) {
		l.planes = *image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	}
	for y := 0; y < h; y += 2 {
		below := min(y+1, h-1)
		for x := 0; x < w; x += 2 {
			var blue, red int
			beside := min(x+1, w-1)
			for _, at := range [4]image.Point{{x, y}, {beside, y}, {x, below}, {beside, below}} {
				p := img.Row(r.Min.Y+at.Y, r.Min.X+at.X, r.Min.X+at.X+1)
				b, g, r := int(p[0]), int(p[1]), int(p[2])
				l.planes.Y[l.planes.YOffset(at.X, at.Y)] = byte((19595*r + 38470*g + 7471*b + 1<<15) >> 16)
				blue += 32768*b - 21712*g - 11056*r
				red += 32768*r - 27440*g - 5328*b
			}
			at := l.planes.COffset(x, y)
			l.planes.Cb[at] = byte((blue + 128<<18 + 1<<17 - 1) >> 18)
			l.planes.Cr[at] = byte((red + 128<<18 + 1<<17 - 1) >> 18)
		}
	}
	l.out.Reset()
	l.options.Quality = quality
	if err := jpeg.Encode(&l.out, &l.planes, &l.options); err != nil {
		panic(err)
	}
	return l.out.Bytes()
}

// At every quality ours is at most 0.1 dB behind image/jpeg with the same steps. In tiny and in regular pictures, where it
// matters which way a single half is rounded, the difference may be 4 dB. More colours make no picture worse.
func TestJPEG(t *testing.T) {
	e := rfb.NewGoJPEG()
	var l library
	sizes := []image.Point{{1, 1}, {7, 9}, {8, 8}, {9, 15}, {15, 17}, {16, 16}, {17, 33}, {24, 8}, {31, 1}, {1, 40}, {65, 63}, {128, 96}}
	regular := map[string]bool{"tiles": true, "stripes": true, "checker": true, "row": true}
	for _, size := range sizes {
		whole := image.Rect(5, 7, 5+size.X+3, 7+size.Y+2)
		r := image.Rect(7, 8, 7+size.X, 8+size.Y)
		for name, img := range jpegPictures(whole) {
			for _, quality := range []int{1, 15, 29, 42, 50, 62, 77, 86, 92, 99, 100} {
				square := map[rfb.Subsampling]float64{}
				for _, sub := range subsamplings {
					square[sub] = meanSquare(t, img, r, rfb.AppendJPEG(e, nil, img, r, quality, sub))
				}
				std, margin, behind := meanSquare(t, img, r, l.encode(img, r, quality)), 0.0, 0.1
				if size.X*size.Y < 1000 || regular[name] {
					margin, behind = 0.5, 4
				}
				if decibel(square[rfb.Sub420]) < decibel(std+margin)-behind {
					t.Errorf("%s, %v, quality %d: %.2f dB, but image/jpeg has %.2f", name, size, quality, decibel(square[rfb.Sub420]), decibel(std))
				}
				if size.X*size.Y < 1000 || quality < 50 {
					continue
				}
				if square[rfb.Sub422] > 1.05*square[rfb.Sub420]+0.1 || square[rfb.Sub444] > 1.05*square[rfb.Sub422]+0.1 {
					t.Errorf("%s, %v, quality %d: mean squares %v", name, size, quality, square)
				}
			}
		}
	}
}

// segments are those of a picture up to its scan, without their lengths.
func segments(t *testing.T, coded []byte) map[byte][]byte {
	t.Helper()
	list := map[byte][]byte{}
	for at := 2; coded[at+1] != 0xda; {
		n := int(coded[at+2])<<8 | int(coded[at+3])
		list[coded[at+1]] = append(list[coded[at+1]], coded[at+4:at+2+n]...)
		at += 2 + n
	}
	return list
}

// The tables are those of image/jpeg.
func TestJPEGTables(t *testing.T) {
	img := paint(image.Rect(0, 0, 16, 16), text)
	var l library
	for quality := 1; quality <= 100; quality++ {
		ours := segments(t, rfb.AppendJPEG(rfb.NewGoJPEG(), nil, img, img.Rect, quality, rfb.Sub420))
		theirs := segments(t, l.encode(img, img.Rect, quality))
		for name, marker := range map[string]byte{"steps": 0xdb, "Huffman tables": 0xc4} {
			if !bytes.Equal(ours[marker], theirs[marker]) {
				t.Errorf("quality %d: %s are\n%x, not\n%x", quality, name, ours[marker], theirs[marker])
			}
		}
	}
}

// inSteps fails where a picture is further from its source than by half a step of each number, and rounding. That holds for any
// content: what a block is off in its numbers it is off in its samples.
func inSteps(t *testing.T, img frame.Image, coded []byte) {
	t.Helper()
	picture, err := jpeg.Decode(bytes.NewReader(coded))
	if err != nil {
		t.Fatal(err)
	}
	planes, size := picture.(*image.YCbCr), img.Rect.Size()
	if planes.Rect.Size() != size {
		t.Fatalf("a picture of %v became one of %v", size, planes.Rect.Size())
	}
	steps := segments(t, coded)[0xdb]
	across, down := 1, 1
	switch planes.SubsampleRatio {
	case image.YCbCrSubsampleRatio420:
		across, down = 2, 2
	case image.YCbCrSubsampleRatio422:
		across = 2
	}
	for _, plane := range []struct {
		name                     string
		samples                  []byte
		stride, across, down     int
		steps                    []byte
		blue, green, red, middle float64
	}{
		{"Y", planes.Y, planes.YStride, 1, 1, steps[1:65], 0.114, 0.587, 0.299, 0},
		{"Cb", planes.Cb, planes.CStride, across, down, steps[66:], 0.5, -0.331264, -0.168736, 128},
		{"Cr", planes.Cr, planes.CStride, across, down, steps[66:], -0.081312, -0.418688, 0.5, 128},
	} {
		w, h := (size.X+plane.across-1)/plane.across, (size.Y+plane.down-1)/plane.down
		var off, step float64
		for y := range h {
			for x := range w {
				want := 0.0
				for j := range plane.down {
					for i := range plane.across {
						px, py := min(x*plane.across+i, size.X-1), min(y*plane.down+j, size.Y-1)
						p := img.Row(img.Rect.Min.Y+py, img.Rect.Min.X+px, img.Rect.Min.X+px+1)
						want += plane.blue*float64(p[0]) + plane.green*float64(p[1]) + plane.red*float64(p[2])
					}
				}
				d := want/float64(plane.across*plane.down) + plane.middle - float64(plane.samples[y*plane.stride+x])
				off += d * d
			}
		}
		for _, s := range plane.steps {
			step += float64(s) * float64(s) / 4
		}
		blocks := float64((w+7)/8) * float64((h+7)/8)
		if most := math.Sqrt(blocks*step) + math.Sqrt(float64(w*h)); math.Sqrt(off) > most {
			t.Fatalf("%s is off by %.1f in all, more than %.1f", plane.name, math.Sqrt(off), most)
		}
	}
}

// Any picture can be decoded and is as near to its source as its steps say.
func FuzzJPEG(f *testing.F) {
	f.Add([]byte("\x00\xff\x80"), uint8(33), uint8(17), uint8(100), uint8(0))
	f.Add([]byte("\x00\x00\x00\x00\xff\xff\xff\x00\x40"), uint8(16), uint8(16), uint8(1), uint8(2))
	f.Add(bytes.Repeat([]byte("\xff\x00\x00\x00"), 16), uint8(48), uint8(48), uint8(92), uint8(1))
	e := rfb.NewJPEG() // as one lives on
	f.Fuzz(func(t *testing.T, content []byte, w, h, quality, sub uint8) {
		if len(content) == 0 || w == 0 || h == 0 || int(w)*int(h) > 64*64 {
			return
		}
		img := frame.New(image.Rect(0, 0, int(w), int(h)))
		for i := range img.Pix {
			img.Pix[i] = content[i%len(content)]
		}
		inSteps(t, img, rfb.AppendJPEG(e, nil, img, img.Rect, int(quality)%100+1, rfb.Sub444+rfb.Subsampling(sub%3)))
	})
}

// BenchmarkJPEGEncoder compares the encoders alone; one byte is one pixel.
func BenchmarkJPEGEncoder(b *testing.B) {
	pictures := benchPictures()
	for _, content := range []string{"photo", "text"} {
		img := pictures[content]
		run := func(name string, encode func([]byte) []byte) {
			b.Run(content+"/"+name, func(b *testing.B) {
				out := encode(nil)
				b.SetBytes(int64(len(img.Pix) / 4))
				b.ReportAllocs()
				for b.Loop() {
					out = encode(out[:0])
				}
				b.ReportMetric(decibel(meanSquare(b, img, img.Rect, out)), "dB")
				b.ReportMetric(float64(len(out)), "out/op")
			})
		}
		for _, c := range []struct {
			quality int
			sub     string
		}{{80, "4:2:0"}, {80, "4:2:2"}, {80, "4:4:4"}, {92, "4:4:4"}} {
			for name, e := range map[string]rfb.JPEGEncoder{"go": rfb.NewGoJPEG(), "built-in": rfb.NewJPEG()} {
				run(fmt.Sprintf("%s q%d %s", name, c.quality, c.sub), func(dst []byte) []byte {
					return rfb.AppendJPEG(e, dst, img, img.Rect, c.quality, subsamplings[c.sub])
				})
			}
		}
		var l library
		l.encode(img, img.Rect, 80)
		run("image-jpeg q80 4:2:0", func([]byte) []byte { // without conversion of colours
			l.out.Reset()
			if err := jpeg.Encode(&l.out, &l.planes, &l.options); err != nil {
				b.Fatal(err)
			}
			return l.out.Bytes()
		})
	}
}
