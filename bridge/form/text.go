package form

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// A style is a font at a size, in pixels at scale 1.
type style struct {
	bold bool
	size int
}

var (
	styleHeading = style{true, 23}
	styleSubject = style{false, 17}
	styleText    = style{false, 15}
	styleStrong  = style{true, 15}
	styleSmall   = style{false, 13}
)

// A typeface is a style made ready for a scale.
type typeface struct {
	face    font.Face
	ascent  int // pixels from the top of a line to its base line
	height  int // pixels from a line to the next
	descent int
}

// faces makes typefaces and keeps them: a Painter's few styles at the few scales there are.
type faces struct {
	regular, bold *sfnt.Font
	made          map[faceKey]*typeface
}

type faceKey struct {
	style
	scale scale
}

func (f *faces) get(s style, by scale) *typeface {
	key := faceKey{s, by}
	if t := f.made[key]; t != nil {
		return t
	}
	from := f.regular
	if s.bold {
		from = f.bold
	}
	face, err := opentype.NewFace(from, &opentype.FaceOptions{Size: float64(by.px(s.size)), DPI: 72, Hinting: font.HintingFull})
	if err != nil { // options of ours: cannot be
		panic(err)
	}
	m := face.Metrics()
	t := &typeface{face: face, ascent: m.Ascent.Ceil(), descent: m.Descent.Ceil()}
	t.height = t.ascent + t.descent + by.px(3)
	f.made[key] = t
	return t
}

func (t *typeface) width(s string) int { return font.MeasureString(t.face, s).Ceil() }

// draw writes s with its line's top left corner at x, y.
func (t *typeface) draw(c *canvas, s string, x, y int, rgb uint32) {
	d := font.Drawer{Dst: c.m, Src: ink(rgb), Face: t.face, Dot: fixed.P(x, y+t.ascent)}
	d.DrawString(s)
}

// wrap breaks s into lines no wider than width pixels, between words where it can, and where s has line feeds. It
// gives at most maxLines; what is beyond is cut.
func (t *typeface) wrap(s string, width int) []string {
	const maxLines = 12
	var lines []string
	for _, para := range strings.Split(s, "\n") {
		line := ""
		for _, word := range strings.Fields(para) {
			if line != "" && t.width(line+" "+word) <= width {
				line += " " + word
				continue
			}
			if line != "" {
				lines = append(lines, line)
			}
			for t.width(word) > width && utf8.RuneCountInString(word) > 1 {
				n := t.fit(word, width)
				lines, word = append(lines, word[:n]), word[n:]
			}
			line = word
		}
		lines = append(lines, line)
		if len(lines) >= maxLines {
			return lines[:maxLines]
		}
	}
	return lines
}

// fit is how many bytes of s fit into width, at least one character.
func (t *typeface) fit(s string, width int) int {
	end := 0
	for i, c := range s {
		n := i + utf8.RuneLen(c)
		if end > 0 && t.width(s[:n]) > width {
			break
		}
		end = n
	}
	return end
}

// cut shortens s with an ellipsis to fit into width.
func (t *typeface) cut(s string, width int) string {
	if t.width(s) <= width {
		return s
	}
	n := t.fit(s, width-t.width("…"))
	return s[:n] + "…"
}
