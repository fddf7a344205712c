// Package rfb is the server's side of the RFB protocol (VNC): the handshake, the messages of a viewer, and the encodings
// in which pictures are sent. It speaks RFC 6143 and those extensions that common viewers use. All of it works on readers,
// writers and byte slices; deadlines, rates and policy are the caller's.
//
//	ServerVersion → OfferSecurity → X509 and ReadPlain, RA2 and ReadLogin, or Challenge → WriteResult → ReadClientInit → AppendServerInit
//	Reader.Next → Handler            what the viewer wants
//	Encoder.Append → Batch.Send      what it gets
package rfb

// Pixel encodings. RFC 6143, section 7.7, and the IANA registry.
const (
	Raw      int32 = 0
	CopyRect int32 = 1
	RRE      int32 = 2
	Hextile  int32 = 5
	Zlib     int32 = 6
	Tight    int32 = 7
	ZRLE     int32 = 16
	JPEG     int32 = 21 // for photographs, beside Tight
)

// Pseudo-encodings: what a viewer can do beside decoding pixels, and the rectangles that carry it.
const (
	PseudoQuality0            int32 = -32 // … -23 for quality level 9
	PseudoQuality9            int32 = -23
	PseudoCompress0           int32 = -256 // … -247 for compress level 9
	PseudoCompress9           int32 = -247
	PseudoSubsampling0        int32 = -768 // 4:4:4; -767 4:2:0, -766 4:2:2, -765 grey, -764 and -763 less
	PseudoSubsampling5        int32 = -763
	PseudoFineQuality0        int32 = -512 // … -412 for 100
	PseudoFineQuality100      int32 = -412
	PseudoDesktopSize         int32 = -223
	PseudoLastRect            int32 = -224
	PseudoPointerPos          int32 = -232
	PseudoCursor              int32 = -239
	PseudoXCursor             int32 = -240
	PseudoQEMUKey             int32 = -258
	PseudoQEMULED             int32 = -261
	PseudoDesktopName         int32 = -307
	PseudoExtendedDesktopSize int32 = -308
	PseudoFence               int32 = -312
	PseudoContinuousUpdates   int32 = -313
	PseudoCursorWithAlpha     int32 = -314
	PseudoExtendedMouse       int32 = -316
	PseudoVMwareCursor        int32 = 0x574d5664
	PseudoVMwareLED           int32 = 0x574d5668
	PseudoExtendedClipboard   int32 = -0x3f5e1a32 // 0xc0a1e5ce
	pseudoLibVNC              int32 = -0x1ffff    // 0xfffe0001: "supported messages", sent by libvncclient alone
)

// Message types of a server.
const (
	serverUpdate    = 0
	serverColourMap = 1
	serverBell      = 2
	serverCutText   = 3
	serverEndOfCU   = 150
	serverFence     = 248
)

// Message types of a viewer.
const (
	clientPixelFormat = 0
	clientEncodings   = 2
	clientUpdate      = 3
	clientKey         = 4
	clientPointer     = 5
	clientCutText     = 6
	clientKeepAlive   = 13
	clientCU          = 150
	clientFence       = 248
	clientDesktopSize = 251
	clientQEMU        = 255
)

// Limits on texts that are sent.
const (
	MaxReason = 256 // bytes of the reason of a refusal
	MaxName   = 255 // bytes of a desktop's name
)
