package record

import (
	"errors"
	"image"
	"io"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/frame"
)

// A Player has one place in a File, and the picture there. It is used by one goroutine.
type Player struct {
	f       *File
	in      blocks
	dec     *decoder
	missing frame.Region // what of the picture is not known
	at      time.Duration
	ended   error // nothing comes any more: io.EOF, or what is wrong with the file
}

// NewPlayer begins before the first update, with a black picture.
func (f *File) NewPlayer() *Player {
	p := &Player{f: f, dec: newDecoder(nil, frame.New(image.Rectangle{Max: f.Size}))}
	p.begin(f.keys[0])
	return p
}

// begin goes to a key.
func (p *Player) begin(k Key) {
	p.in = blocks{f: p.f, next: k.Offset, buf: p.in.buf}
	p.dec.anew(&p.in, k.Offset == p.f.first)
	p.at, p.ended = 0, nil
	p.missing.Reset(p.f.Size)
	if k.Offset > p.f.first {
		p.missing.Add(p.missing.Bounds())
	} else {
		clear(p.dec.m.Pix)
	}
}

// Picture is that of now. It is the Player's to change.
func (p *Player) Picture() frame.Image { return p.dec.m }

// At is when the picture came up, since the start of the recording.
func (p *Player) At() time.Duration { return p.at }

// Next is when the next update comes, since the start. ok is false at the end of the recording.
func (p *Player) Next() (at time.Duration, ok bool) {
	if p.ended != nil {
		return 0, false
	}
	if err := p.in.fill(); err != nil {
		p.ended = err
		return 0, false
	}
	return p.in.at, true
}

// Err is what is wrong with the file, once Next has said that nothing comes; nil at the recording's end. A recording that was cut off in the
// middle of an update ends there.
func (p *Player) Err() error {
	if p.ended == nil || errors.Is(p.ended, io.EOF) || errors.Is(p.ended, io.ErrUnexpectedEOF) {
		return nil
	}
	return p.ended
}

// Step shows the next update and adds to changed what is different, if that is not nil.
func (p *Player) Step(changed *frame.Region) {
	at, ok := p.Next()
	if !ok {
		return
	}
	p.at = at
	if err := p.dec.update(&p.missing, changed); err != nil {
		p.ended = err
	}
}

// Seek shows the picture of that time: that of the last update at it or before, or the first whole one.
func (p *Player) Seek(to time.Duration) {
	to = max(to, p.f.Start)
	n := p.keyAt(to)
	if to >= p.at && p.ended == nil && p.f.keys[n].Offset <= p.in.next && p.missing.Empty() {
		p.play(to)
		return
	}
	for ; ; n-- {
		p.begin(p.f.keys[n])
		if p.play(to); n == 0 || p.missing.Empty() && p.Err() == nil { // else the key was none
			return
		}
	}
}

// keyAt is the number of the last key that is whole at a time.
func (p *Player) keyAt(at time.Duration) int {
	n, _ := slices.BinarySearchFunc(p.f.keys, at, func(k Key, at time.Duration) int {
		if k.Whole <= at {
			return -1
		}
		return 1
	})
	return max(n-1, 0)
}

// play shows every update up to a time, or as much of it as is seen then.
func (p *Player) play(to time.Duration) {
	p.lookAhead(to)
	defer func() { p.dec.unseen = nil }()
	for {
		if at, ok := p.Next(); !ok || at > to {
			return
		}
		p.Step(nil)
	}
}
