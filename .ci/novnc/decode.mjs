// Has noVNC's own decoders decode what a server sends until it ends the connection, and says on standard output what they draw, one
// record after the other:
//
//	kind x y width height length  data     one byte, four numbers of two bytes, one of four; all big-endian
//
//	f  fill: red, green, blue
//	b  pixels: red, green, blue and one more byte each
//	c  copy: from x, y, two bytes each
//	i  a JPEG picture
//
//	node decode.mjs PORT < {"password": "…"}
import { readFileSync, writeSync } from "node:fs";
import { Channel, Display, RFB, nothing } from "./headless.mjs";

function draw(kind, x, y, width, height, data) {
    const head = Buffer.alloc(13);
    head.write(kind);
    [x, y, width, height].forEach((n, i) => head.writeUInt16BE(n, 1 + 2 * i));
    head.writeUInt32BE(data.length, 9);
    for (let all = Buffer.concat([head, data]); all.length > 0;) {
        try {
            all = all.subarray(writeSync(1, all));
        } catch (e) {
            if (e.code !== "EAGAIN") throw e;
        }
    }
}

Display.prototype.fillRect = (x, y, w, h, color) => draw("f", x, y, w, h, Buffer.from(color).subarray(0, 3));
Display.prototype.blitImage = (x, y, w, h, pixels, offset) => draw("b", x, y, w, h, Buffer.from(pixels.slice(offset, offset + 4 * w * h)));
Display.prototype.imageRect = (x, y, w, h, mime, data) => draw("i", x, y, w, h, Buffer.from(data));
Display.prototype.copyImage = (fromX, fromY, x, y, w, h) => {
    const from = Buffer.alloc(4);
    from.writeUInt16BE(fromX, 0);
    from.writeUInt16BE(fromY, 2);
    draw("c", x, y, w, h, from);
};

const credentials = JSON.parse(readFileSync(0, "utf8"));
const rfb = new RFB(nothing(), new Channel(Number(process.argv[2])), { credentials });
for (const level of ["qualityLevel", "compressionLevel"]) if (level in credentials) rfb[level] = credentials[level];
rfb.addEventListener("securityfailure", e => process.stderr.write("refused " + e.detail.reason + "\n"));
rfb.addEventListener("disconnect", () => process.exit(0));
