// noVNC without a browser: what it wants from one is a thing that has everything and does nothing.
import { webcrypto } from "node:crypto";
import net from "node:net";

export function nothing() {
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
export const { default: RFB } = await import(new URL("rfb.js", core));
export const { default: Display } = await import(new URL("display.js", core));

// A Channel is a WebSocket as far as noVNC looks.
export class Channel {
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
