package desktop

import (
	"image"
	"runtime"
	"sync"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// What is kept while nobody uses it.
const (
	maxKept  = 4 << 20  // bytes of one batch
	maxIdle  = 16 << 20 // and of all
	maxSpare = 128      // encodings
)

// An encoding is one region of one frame, encoded once for every viewer of the same Params. While someone uses it, it is
// not changed.
type encoding struct {
	batch rfb.Batch

	// Guarded by cache.mu.
	picture  *picture // whose frame it is of; nil: of none
	sequence uint32
	at       image.Point // of the image that the region is of, in the picture
	params   rfb.Params
	region   frame.Region
	ready    bool
	users    int
}

// A cache holds the encodings of late frames, and the encoders.
type cache struct {
	stats *stats

	mu       sync.Mutex // guards what follows, and parts of every encoding
	changed  sync.Cond  // an encoding is ready, or an encoder free
	kept     []*encoding
	encoders []*rfb.Encoder // free
	running  int            // encoders in use
}

func newCache(s *stats) *cache {
	c := &cache{stats: s}
	c.changed.L = &c.mu
	return c
}

// encode gives the encoding of region of p's frame, whose memory the caller has entered: one that is there or is being
// made, or a new one. rects is scratch memory. The caller releases the encoding.
func (c *cache) encode(p *picture, sequence uint32, at image.Point, region *frame.Region, params rfb.Params, img frame.Image, rects *[]image.Rectangle) *encoding {
	c.mu.Lock()
	for _, e := range c.kept {
		if e.picture == p && e.sequence == sequence && e.at == at && e.params == params && e.region.Equal(region) {
			e.users++
			for !e.ready {
				c.changed.Wait()
			}
			c.mu.Unlock()
			c.stats.shared.Add(1)
			return e
		}
	}
	e := c.free(p, sequence)
	e.picture, e.sequence, e.at, e.params, e.ready, e.users = p, sequence, at, params, false, 1
	e.region.Set(region)
	enc := c.take()
	c.mu.Unlock()

	e.batch.Reset()
	*rects = region.AppendRects((*rects)[:0])
	enc.Append(&e.batch, params, img, *rects)
	c.stats.encodes.Add(1)

	c.mu.Lock()
	e.ready = true
	c.give(enc)
	c.mu.Unlock()
	return e
}

// free is an encoding that nobody uses and nobody will: those of the frame that is in the memory now may be wanted by a viewer who
// is a moment behind.
func (c *cache) free(p *picture, sequence uint32) *encoding {
	for _, e := range c.kept {
		if e.users == 0 && (e.picture != p || e.sequence != sequence) {
			return e
		}
	}
	e := &encoding{}
	c.kept = append(c.kept, e)
	return e
}

// release gives an encoding back. One that took much memory is dropped, and so is one too many.
func (c *cache) release(e *encoding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	if e.users > 0 {
		return
	}
	idle, spare, at := 0, 0, -1
	for i, k := range c.kept {
		if k.users == 0 {
			idle += cap(k.batch.Bytes)
			spare++
		}
		if k == e {
			at = i
		}
	}
	if idle > maxIdle || spare > maxSpare || cap(e.batch.Bytes) > maxKept {
		last := len(c.kept) - 1
		c.kept[at], c.kept[last] = c.kept[last], nil
		c.kept = c.kept[:last]
	}
}

// forget drops what is kept of a picture that is gone.
func (c *cache) forget(p *picture) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.kept {
		if e.picture == p && e.users == 0 {
			e.picture = nil
		}
	}
}

// own encodes rects of an image that is one viewer's alone.
func (c *cache) own(b *rfb.Batch, params rfb.Params, img frame.Image, rects []image.Rectangle) {
	c.mu.Lock()
	enc := c.take()
	c.mu.Unlock()
	enc.Append(b, params, img, rects)
	c.mu.Lock()
	c.give(enc)
	c.mu.Unlock()
}

// take waits for one of as many encoders as there are processors. c.mu is held.
func (c *cache) take() *rfb.Encoder {
	for len(c.encoders) == 0 && c.running >= runtime.GOMAXPROCS(0) {
		c.changed.Wait()
	}
	c.running++
	if n := len(c.encoders); n > 0 {
		enc := c.encoders[n-1]
		c.encoders = c.encoders[:n-1]
		return enc
	}
	return &rfb.Encoder{}
}

func (c *cache) give(enc *rfb.Encoder) {
	c.running--
	c.encoders = append(c.encoders, enc)
	c.changed.Broadcast()
}
