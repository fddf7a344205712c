// Logs in with noVNC's own client over TCP and says on standard output, one line each, what it meets:
//
//	key XX-…      the fingerprint of the server's RSA key, which is approved
//	refused TEXT  the reason in SecurityResult
//	connected N   the desktop's name
//	pixel R,G,B   the colour of the first rectangle that is filled with one, once the name is that of a user's desktop, USER@NAME
//
//	node login.mjs PORT < {"username": "…", "password": "…"}
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Channel, Display, RFB, nothing } from "./headless.mjs";

const say = line => process.stdout.write(line + "\n");
let filled = false, desktop = false; // before it there may be the form's background
Display.prototype.fillRect = function (x, y, width, height, color) {
    if (!desktop) return;
    if (!filled) say("pixel " + Array.from(color).slice(0, 3).join());
    filled = true;
    rfb.disconnect();
};

const credentials = JSON.parse(readFileSync(0, "utf8"));
const rfb = new RFB(nothing(), new Channel(Number(process.argv[2])), { credentials });
rfb.addEventListener("serververification", e => {
    const sum = createHash("sha1").update(e.detail.publickey).digest("hex");
    say("key " + sum.slice(0, 16).match(/../g).join("-"));
    rfb.approveServer();
});
rfb.addEventListener("securityfailure", e => say("refused " + e.detail.reason));
rfb.addEventListener("desktopname", e => {
    desktop = e.detail.name.includes("@");
    say("connected " + e.detail.name);
});
rfb.addEventListener("disconnect", () => process.exit(0));
