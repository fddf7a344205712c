// Logs in with noVNC's own client over TCP and says on standard output, one line each, what it meets:
//
//	key XX-…      the fingerprint of the server's RSA key, which is approved
//	refused TEXT  the reason in SecurityResult
//	connected N   the desktop's name
//	pixel R,G,B   the colour of the first rectangle that is filled with one
//
//	node login.mjs PORT < {"username": "…", "password": "…"}
//
// There is no browser: what noVNC wants from one is a thing that has everything and does nothing.
import { createHash, webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";

function nothing() {
    const has = new Map();
    return new Proxy(function () {}, {
        get(_, name) {
            if (name === Symbol.toPrimitive) return () => 0;
            if (typeof name === "symbol" || name === "then") return undefined;
            if (!has.has(name)) has.set(name, nothing());
            return has.get(name);
        },
        set(_, name, value) {
            has.set(name, value);
            return true;
        },
        apply: nothing,
        construct: nothing,
    });
}

function define(name, value) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

define("window", globalThis);
define("isSecureContext", true);
if (!globalThis.crypto) define("crypto", webcrypto);
for (const name of ["document", "navigator", "Image", "ImageData", "ResizeObserver", "MutationObserver", "addEventListener", "removeEventListener",
    "requestAnimationFrame", "getComputedStyle", "WebSocket"]) define(name, nothing());
define("CustomEvent", class extends Event {
    constructor(type, init) {
        super(type, init);
        this.detail = init?.detail ?? null;
    }
});

const core = new URL("./node_modules/@novnc/novnc/core/", import.meta.url);
const { default: RFB } = await import(new URL("rfb.js", core));
const { default: Display } = await import(new URL("display.js", core));

// A Channel is a WebSocket as far as noVNC looks.
class Channel {
    binaryType = "arraybuffer";
    protocol = "";
    readyState = "connecting";
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;

    constructor(port) {
        this.socket = net.connect(port, "127.0.0.1", () => {
            this.readyState = "open";
            this.onopen?.({});
        });
        this.socket.setNoDelay(true);
        this.socket.on("data", b => this.onmessage?.({ data: b.buffer.slice(b.byteOffset, b.byteOffset + b.length) }));
        this.socket.on("error", e => this.onerror?.(e));
        this.socket.on("close", () => {
            this.readyState = "closed";
            this.onclose?.({ code: 1000, reason: "" });
        });
    }

    send(data) {
        this.socket.write(Buffer.from(data)); // a copy: noVNC uses its buffer again
    }

    close() {
        this.socket.end();
    }
}

const say = line => process.stdout.write(line + "\n");
let filled = false;
Display.prototype.fillRect = function (x, y, width, height, color) {
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
rfb.addEventListener("desktopname", e => say("connected " + e.detail.name));
rfb.addEventListener("disconnect", () => process.exit(0));
