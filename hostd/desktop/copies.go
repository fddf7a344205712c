package desktop

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// maxCopies is the most copies that wait for a viewer. One more is put together with the last, or becomes damage.
const maxCopies = 8

// What moved on the desktop is sent as copies that the client makes within its own picture, before any pixels of the same update.
// That picture is not the desktop's, though. Three kinds of cells are followed through every copy:
//
//	dirty    what the client will lack after the copies that wait, so a copy adds to it when it comes
//	lossy    what the client has with losses now, so a copy moves it when it is sent
//	notDesk  where the client has a page, the cursor or the background now: when a copy that is sent takes something from
//	         there, or covers something there, that place is dirty
//
// A copy takes nothing out of dirty, since a cell may be dirty for a page that has not been sent yet.

// copied notes a copy that a frame of a picture of that size began with. v.mu is held.
func (v *viewer) copied(c frame.Copy, size image.Point) {
	if c.To.Empty() {
		return
	}
	if !v.caps.CopyRect || size != v.size || !v.crop.Empty() {
		v.dirty.Add(c.To.Sub(v.crop.Min))
		return
	}
	v.spare.Set(&v.dirty)
	v.dirty.AddCopied(&v.spare, c)
	if v.lacks(c.To) {
		return // and a copy would make nothing better
	}
	if len(v.copies) < maxCopies {
		v.copies = append(v.copies, c)
		return
	}
	// Of a slow viewer: what is scrolled or dragged moves on and on.
	last := &v.copies[maxCopies-1]
	by := c.To.Min.Sub(c.From)
	both := c.To.Intersect(last.To.Add(by))
	if 2*area(both) < area(c.To) {
		v.dirty.Add(c.To)
		return
	}
	v.addOutside(last.To, c.To)
	v.addOutside(c.To, both)
	*last = frame.Copy{From: both.Min.Sub(by).Sub(last.To.Min.Sub(last.From)), To: both}
}

// lacks says whether all of r is dirty. v.mu is held.
func (v *viewer) lacks(r image.Rectangle) bool {
	v.spare.Reset(v.dirty.Size())
	v.spare.Add(r)
	v.spare.Without(&v.dirty)
	return v.spare.Empty()
}

// addOutside makes dirty what of a is not in b. v.mu is held.
func (v *viewer) addOutside(a, b image.Rectangle) {
	b = a.Intersect(b)
	if b.Empty() {
		v.dirty.Add(a)
		return
	}
	v.dirty.Add(image.Rect(a.Min.X, a.Min.Y, a.Max.X, b.Min.Y))
	v.dirty.Add(image.Rect(a.Min.X, b.Max.Y, a.Max.X, a.Max.Y))
	v.dirty.Add(image.Rect(a.Min.X, b.Min.Y, b.Min.X, b.Max.Y))
	v.dirty.Add(image.Rect(b.Max.X, b.Min.Y, a.Max.X, b.Max.Y))
}

func area(r image.Rectangle) int { return r.Dx() * r.Dy() }

// drawCopies gives up the copies that wait: their places are sent as pixels. v.mu is held.
func (v *viewer) drawCopies() {
	for _, c := range v.copies {
		v.dirty.Add(c.To)
	}
	v.copies = v.copies[:0]
}

// takeCopies moves the copies that wait into s.copies, all or none of them, and makes dirty what they make wrong in the client's
// picture. v.mu is held; s.work and s.part are used.
func (v *viewer) takeCopies(u *update) {
	s := &v.send
	s.copies = s.copies[:0]
	if len(v.copies) == 0 {
		return
	}
	able := u.caps.CopyRect && u.scene.desk != nil
	for _, c := range v.copies {
		able = able && c.To.In(u.area) && c.Source().In(u.area)
	}
	if !able {
		v.drawCopies()
		return
	}
	s.copies = append(s.copies, v.copies...)
	v.copies = v.copies[:0]
	s.part.Set(&s.notDesk)
	for _, c := range s.copies {
		carry(&s.lossy, c, &s.work)
		carry(&s.notDesk, c, &s.work)
	}
	for _, c := range s.copies { // what they cover of pages and cursor
		s.part.Split(c.To, &s.work)
		v.dirty.Union(&s.work)
	}
	s.work.Set(&s.notDesk) // what they take along
	s.work.Without(&s.part)
	v.dirty.Union(&s.work)
}

// carry moves the cells of r as a copy moves the pixels below them. spare is scratch memory.
func carry(r *frame.Region, c frame.Copy, spare *frame.Region) {
	if r.Empty() {
		return
	}
	spare.Set(r)
	r.Sub(c.To)
	r.AddCopied(spare, c)
}

// appendCopies puts the copies of this update into s.first.
func (v *viewer) appendCopies() {
	s := &v.send
	for _, c := range s.copies {
		s.first.Bytes = rfb.AppendCopyRect(s.first.Bytes, c)
		s.first.Count++
	}
}
