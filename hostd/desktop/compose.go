package desktop

import (
	"image"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// compose sends what the client lacks, if it lacks something.
func (v *viewer) compose(u *update, now time.Time) (sent bool, err error) {
	s := &v.send
	var p *picture
	if u.scene.desk != nil {
		if p = u.scene.desk.enter(now); p != nil {
			defer func() {
				if p != nil {
					p.leave()
				}
			}()
		}
	}
	changed := &s.rest
	changed.Reset(u.size)
	v.drawPages(u, now, changed)
	cursorBox := v.moveCursor(u, p, changed)
	if !v.take(u, p, changed, cursorBox) {
		return true, nil // the scene has changed: again, with the new one
	}
	s.first.Reset()
	s.own.Reset()
	s.parts, s.photos = s.parts[:0], false
	v.announce(u) // before any pixels: TigerVNC decodes them in the cursor's pixel format if the cursor comes behind
	v.appendCopies()
	v.encodePages(u)
	v.encodeBase(u, p, cursorBox)
	if p != nil {
		p.leave()
		p = nil
	}
	return v.finish(u)
}

// drawPages brings the overlays up to date.
func (v *viewer) drawPages(u *update, now time.Time, changed *frame.Region) {
	if !v.redraws(u) {
		return
	}
	v.send.drawn = now
	for i := range v.send.overlays {
		v.send.overlays[i].draw(v.painter, u.scene.page(i), u.size, changed)
	}
}

// redraws says whether an overlay is not what the scene shows.
func (v *viewer) redraws(u *update) bool {
	for i := range v.send.overlays {
		if o := &v.send.overlays[i]; o.page != u.scene.page(i) || o.page != nil && o.size != u.size {
			return true
		}
	}
	return false
}

// moveCursor decides whether the desktop's cursor is drawn into the picture, and gives the box in which it must be drawn
// in this update whatever else changes.
func (v *viewer) moveCursor(u *update, p *picture, changed *frame.Region) image.Rectangle {
	s := &v.send
	draws := u.scene.desk != nil && (!u.scene.owner || u.caps.Cursor == rfb.CursorNone)
	v.draws.Store(draws)
	if !draws {
		s.cursor.gone(changed)
		return image.Rectangle{}
	}
	if p == nil {
		return image.Rectangle{}
	}
	cur, shape, at := u.scene.desk.pointing()
	if s.cursor.move(cur, shape, at.Sub(u.crop.Min), u.view(p).Rect, changed) {
		return s.cursor.box
	}
	return image.Rectangle{}
}

// take moves into s.copies and s.work what is to be sent: what the client lacks and has asked for. It says no when the scene is not
// u's any more, or the damage is of a later picture than p.
func (v *viewer) take(u *update, p *picture, changed *frame.Region, cursorBox image.Rectangle) bool {
	s := &v.send
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dirty.Union(changed)
	if v.scene != u.scene || p != nil && v.from != nil && v.from != p {
		v.dirty.Add(cursorBox)
		return false
	}
	u.asked, u.area = v.area, v.area
	if v.going {
		u.area = u.area.Union(v.goes)
	}
	v.answered()
	if p == nil && u.scene.desk != nil {
		v.takePages(u)
		return true
	}
	if s.hurried = !s.hurried && v.takeCursor(u, changed, cursorBox); s.hurried {
		return true
	}
	v.takeCopies(u)
	if u.area == v.dirty.Bounds() {
		s.work.Set(&v.dirty)
		v.dirty.Clear()
	} else {
		v.dirty.Split(u.area, &s.work)
	}
	if s.work.Area() > maxUpdate {
		s.rects = s.work.AppendRects(s.rects[:0])
		s.rects = firstOf(s.rects, maxUpdate)
		s.part.Reset(u.size)
		for _, r := range s.rects {
			s.part.Add(r)
		}
		s.work.Without(&s.part)
		v.dirty.Union(&s.work)
		s.work.Set(&s.part)
	}
	return true
}

// takePages is take while the memory is the worker's: only what pages cover can be sent. What else is dirty stays so, since copies
// may come that read it. Those that wait go on waiting: they will find the pages in s.notDesk. v.mu is held.
func (v *viewer) takePages(u *update) {
	s := &v.send
	s.copies = s.copies[:0]
	s.work.Reset(u.size)
	for i := range s.overlays {
		if o := &s.overlays[i]; o.page != nil {
			v.dirty.Split(o.image.Rect.Intersect(u.area), &s.part)
			s.work.Union(&s.part)
		}
	}
}

// takeCursor is take for a cursor that has moved while much else waits: it goes in an update of its own before that, whose pixels take their time to
// be encoded and carried. It says no where the client would have to ask again for the others. v.mu is held.
func (v *viewer) takeCursor(u *update, changed *frame.Region, cursorBox image.Rectangle) bool {
	if cursorBox.Empty() || !v.going || u.area != v.dirty.Bounds() || len(v.copies) > 0 || v.dirty.Area() < changed.Area()+smallChange {
		return false
	}
	v.send.copies = v.send.copies[:0]
	v.send.work.Set(changed) // it stays dirty, so that the next update is that of viewers without this cursor
	return true
}

// firstOf cuts a list of rectangles off after so many pixels, in a rectangle between two rows of tiles.
func firstOf(rects []image.Rectangle, pixels int) []image.Rectangle {
	for i, r := range rects {
		if area := r.Dx() * r.Dy(); area < pixels {
			pixels -= area
			continue
		}
		rows := pixels / r.Dx() / frame.Tile * frame.Tile
		if i == 0 {
			rows = max(rows, frame.Tile)
		}
		rects[i].Max.Y = min(r.Min.Y+rows, r.Max.Y)
		if rows == 0 {
			return rects[:i]
		}
		return rects[:i+1]
	}
	return rects
}

// encodePages moves what pages cover out of s.work and encodes it.
func (v *viewer) encodePages(u *update) {
	s := &v.send
	for i := range s.overlays {
		o := &s.overlays[i]
		if o.page == nil {
			continue
		}
		s.work.Split(o.image.Rect, &s.part)
		v.encodeOwn(u, o.image)
	}
}

// encodeOwn encodes s.part of an image of this viewer's, exactly.
func (v *viewer) encodeOwn(u *update, img frame.Image) {
	s := &v.send
	if s.part.Empty() {
		return
	}
	s.rects = s.part.AppendRects(s.rects[:0])
	v.cache.own(&s.own, u.caps.Params(u.format, true), img, s.rects)
	s.lossy.Without(&s.part)
	s.notDesk.Union(&s.part)
}

// encodeBase encodes what lies below the pages: the desktop and its cursor, or the background.
func (v *viewer) encodeBase(u *update, p *picture, cursorBox image.Rectangle) {
	s := &v.send
	if u.scene.desk == nil {
		s.part.Set(&s.work)
		v.encodeOwn(u, v.background(image.Rectangle{Max: u.size}))
		return
	}
	if p == nil { // not now; see takePages
		return
	}
	whole := image.Rectangle{Max: u.size}
	desk := u.view(p)
	if desk.Rect != whole {
		v.encodeAround(u, desk.Rect)
	}
	size := s.work.Area()
	if !s.work.Empty() {
		v.encodeDesk(u, p, desk, false)
	}
	v.encodeCursor(u, desk, cursorBox)
	if v.coarse.Load() && !s.hurried {
		v.refine(u, p, desk, size)
	}
}

// view is what the client shows of a picture.
func (u *update) view(p *picture) frame.Image {
	img := p.image
	if !u.crop.Empty() {
		img = img.Part(u.crop)
	}
	img.Rect = img.Rect.Intersect(image.Rectangle{Max: u.size})
	return img
}

// encodeAround encodes the background right of and below a desktop that is smaller than the client's picture.
func (v *viewer) encodeAround(u *update, desk image.Rectangle) {
	s := &v.send
	for _, strip := range [...]image.Rectangle{
		image.Rect(desk.Max.X, 0, u.size.X, u.size.Y), image.Rect(0, desk.Max.Y, desk.Max.X, u.size.Y),
	} {
		if strip.Empty() {
			continue
		}
		s.rest.Set(&s.work)
		s.rest.Split(strip, &s.part)
		v.encodeOwn(u, v.background(strip)) // the encoder cuts what of a tile lies beside the strip
	}
	// Tiles of the background alone are done.
	s.work.Split(desk, &s.part)
	s.work.Set(&s.part)
}

// encodeDesk encodes s.work of the desktop. What the client has with losses and is to get anew before it could get it exactly is
// moving, and so is what changed before, too.
func (v *viewer) encodeDesk(u *update, p *picture, desk frame.Image, lossless bool) {
	s := &v.send
	params := u.caps.Params(u.format, lossless)
	moving := u.caps.Moving().Params(u.format, lossless)
	s.rest.Set(&s.work)
	s.moving.Reset(u.size)
	if moving != params {
		s.rest.Without(&s.lossy)
		u.scene.desk.still(&s.rest, u.crop.Min)
		s.moving.Set(&s.work)
		s.moving.Without(&s.rest)
	}
	s.task = task{v.cache, p, u.crop.Min, desk, params}
	if v.encodeSlices(u, &s.rest) {
		s.task.params = moving
		v.encodeSlices(u, &s.moving)
	}
	s.rest.Union(&s.moving)
	s.work.Without(&s.rest)
	if !lossless && !s.rest.Empty() { // what is to be refined still is
		v.mu.Lock()
		v.dirty.Union(&s.rest)
		v.mu.Unlock()
	}
}

// encodeSlices encodes s.task of a region, together with every other viewer that lacks the same, and takes it out of the region. It does so in
// slices, as many at once as there are processors: a worker with news must not wait for a viewer with much to encode, so something may be left over
// then. It says whether nothing is.
func (v *viewer) encodeSlices(u *update, region *frame.Region) (all bool) {
	s := &v.send
	size := min(max(region.Area()/len(s.slices), minSlice), maxSlice)
	for !region.Empty() {
		if len(s.parts) > 0 && s.task.picture.awaited() {
			return false
		}
		n := 0
		for ; n < len(s.slices) && !region.Empty(); n++ {
			s.rects = firstOf(region.AppendRects(s.rects[:0]), size)
			part := &s.slices[n].part
			part.Reset(u.size)
			for _, r := range s.rects {
				part.Add(r)
			}
			region.Without(part)
		}
		s.encode(n)
		for i := range n {
			e, part := s.slices[i].encoding, &s.slices[i].part
			s.parts = append(s.parts, e)
			s.lossy.Without(part)
			s.notDesk.Without(part)
			for _, r := range e.batch.Lossy {
				s.lossy.Add(r)
			}
			if len(e.batch.Lossy) > 0 {
				s.photos = true
				v.coarse.Store(true)
				u.scene.desk.refine()
			}
		}
	}
	return true
}

// encodeCursor encodes the cursor's box when it has moved or what is below it was sent.
func (v *viewer) encodeCursor(u *update, desk frame.Image, moved image.Rectangle) {
	s := &v.send
	box := s.cursor.box
	if box.Empty() || moved.Empty() && !s.work.Touches(box) {
		return
	}
	s.part.Reset(u.size)
	s.part.Add(box)
	for i := range s.overlays {
		if o := &s.overlays[i]; o.page != nil {
			s.part.Split(o.image.Rect, &s.rest)
		}
	}
	s.cursor.draw(desk)
	v.encodeOwn(u, s.cursor.image)
}

// refine sends a piece of what the client has with losses and has rested, exactly. busy is how many pixels of news this
// update has.
func (v *viewer) refine(u *update, p *picture, desk frame.Image, busy int) {
	s := &v.send
	if s.lossy.Empty() {
		v.coarse.Store(false)
		return
	}
	piece := pieceIdle
	if busy > smallChange {
		return
	} else if busy > 0 {
		piece = pieceBusy
	}
	if s.room > 0 { // on a thin path, what is exact comes in pieces that news need not wait for; a pixel takes two bytes or so
		piece = min(piece, max(s.room/2, frame.Tile*frame.Tile))
	}
	s.work.Set(&s.lossy)
	u.scene.desk.rested(&s.work, u.crop.Min)
	for i := range s.overlays {
		if o := &s.overlays[i]; o.page != nil {
			s.work.Split(o.image.Rect, &s.rest)
		}
	}
	if s.work.Empty() {
		return
	}
	s.cut = firstOf(s.work.AppendRects(s.cut[:0]), piece)
	s.work.Clear()
	for _, r := range s.cut {
		s.work.Add(r)
	}
	v.encodeDesk(u, p, desk, true)
	v.encodeCursor(u, desk, image.Rectangle{})
	v.coarse.Store(!s.lossy.Empty())
}

func (v *viewer) background(r image.Rectangle) frame.Image {
	s := &v.send
	if s.ground.Rect != r {
		s.ground = frame.Solid(r, form.Background)
	}
	return s.ground
}
