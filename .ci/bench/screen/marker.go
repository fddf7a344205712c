package main

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// A marker is a number drawn as black and white cells, so that a viewer can read it from decoded pixels however they were
// compressed: a guard of two cells, sixteen bits, four bits of check and a guard again.
const (
	markerCell    = 8 // pixels
	markerColumns = 12
	markerCells   = 24
)

// markerSize is a marker's, pixels.
var markerSize = image.Pt(markerColumns*markerCell, markerCells/markerColumns*markerCell)

// drawMarker draws the marker of n with its upper left corner at a place of m.
func drawMarker(m frame.Image, at image.Point, n int) {
	n &= 0xffff
	check := (n ^ n>>4 ^ n>>8 ^ n>>12 ^ 5) & 15
	cells := 0b10<<22 | n<<6 | check<<2 | 0b01
	for i := range markerCells {
		v := byte(cells >> (markerCells - 1 - i) & 1 * 255)
		x := at.X + i%markerColumns*markerCell
		for y := range markerCell {
			row := m.Row(at.Y+i/markerColumns*markerCell+y, x, x+markerCell)
			for j := 0; j < len(row); j += frame.BytesPerPixel {
				row[j], row[j+1], row[j+2] = v, v, v
			}
		}
	}
}
