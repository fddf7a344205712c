package main

import (
	"bytes"
	"math"

	"github.com/helmline/helmline/bridge/frame"
)

// A gate is what makes a picture right while it changes.
type gate struct {
	psnr  float64 // dB, at least
	block int     // a block is off when it differs by more than this (root mean square of 0 to 255)
}

// A link that is too thin for good pictures asks for coarser ones in time. What is there must still be what was shown.
var (
	good   = gate{psnr: 42, block: 12}
	coarse = gate{psnr: 32, block: 36}
)

// mostOff is the share of blocks that may be off.
const mostOff = 0.001

const blockSide = 16 // pixels

// A verdict says how near a viewer's picture is to what was shown.
type verdict struct {
	psnr float64 // dB; infinite when they are equal
	off  float64 // share of the blocks that show something else
}

func (v verdict) right(g gate) bool { return v.psnr >= g.psnr && v.off <= mostOff }

// worse is the worse one of each.
func (v verdict) worse(w verdict) verdict {
	return verdict{min(v.psnr, w.psnr), max(v.off, w.off)}
}

// judge compares a picture with those that it may be of. A server may take one picture while the next is drawn, so each
// block counts against the one it is nearest to.
func judge(g gate, got frame.Image, wants ...frame.Image) verdict {
	sum, off, blocks := 0, 0, 0
	for y := got.Rect.Min.Y; y < got.Rect.Max.Y; y += blockSide {
		for x := got.Rect.Min.X; x < got.Rect.Max.X; x += blockSide {
			least := math.MaxInt
			for _, want := range wants {
				least = min(least, blockError(got, want, x, y))
				if least == 0 {
					break
				}
			}
			sum += least
			blocks++
			if least > g.block*g.block*3*blockSide*blockSide {
				off++
			}
		}
	}
	size := got.Rect.Size()
	return verdict{10 * math.Log10(255*255*3*float64(size.X*size.Y)/float64(sum)), float64(off) / float64(blocks)}
}

// blockError is the sum of squares over the three colours of one block.
func blockError(a, b frame.Image, x, y int) int {
	sum := 0
	x1, y1 := min(x+blockSide, a.Rect.Max.X), min(y+blockSide, a.Rect.Max.Y)
	for ; y < y1; y++ {
		p, q := a.Row(y, x, x1), b.Row(y, x, x1)
		if bytes.Equal(p, q) {
			continue
		}
		for i := 0; i < len(p); i += frame.BytesPerPixel {
			for j := i; j < i+3; j++ {
				d := int(p[j]) - int(q[j])
				sum += d * d
			}
		}
	}
	return sum
}
