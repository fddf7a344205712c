// Logs in with noVNC's own client over TCP, in a window of which the desktop is to have the size, and says the size of the picture on standard
// output each time it is another. The window has the sizes of the command line one after the other, each until the picture has it.
//
//	node resize.mjs PORT WxH… < {"username": "…", "password": "…"}
import { readFileSync } from "node:fs";
import { Channel, Display, RFB, nothing } from "./headless.mjs";

const wanted = process.argv.slice(3).map(s => s.split("x").map(Number));
RFB.prototype._screenSize = () => ({ w: wanted[0][0], h: wanted[0][1] });
const resize = Display.prototype.resize;
let last = "";
Display.prototype.resize = function (w, h) {
    resize.call(this, w, h);
    if (last === `${w}x${h}`) return;
    last = `${w}x${h}`;
    process.stdout.write(last + "\n");
};
// A picture that is drawn on has come after the answer to a resize.
const flip = Display.prototype.flip;
Display.prototype.flip = function (...args) {
    flip.apply(this, args);
    if (last !== wanted[0].join("x")) return;
    if (wanted.length === 1) return rfb.disconnect();
    wanted.shift();
    rfb._handleResize(); // which a ResizeObserver would call
};

const credentials = JSON.parse(readFileSync(0, "utf8"));
const rfb = new RFB(nothing(), new Channel(Number(process.argv[2])), { credentials });
rfb.resizeSession = true;
rfb.addEventListener("serververification", () => rfb.approveServer());
rfb.addEventListener("disconnect", () => process.exit(0));
