// What this browser remembers of computers: the key that each showed, and who logged in last.

// The key that a computer shows is pinned by its SHA-256; people compare the short form that every VNC viewer shows.
export async function fingerprints(key) {
    return { pin: hex(await crypto.subtle.digest("SHA-256", key), 32), short: hex(await crypto.subtle.digest("SHA-1", key), 8) };
}

const hex = (sum, bytes) => Array.from(new Uint8Array(sum, 0, bytes), b => b.toString(16).padStart(2, "0")).join("-");

// Memory is read each time anew: another tab may have written to it.
export class Memory {
    constructor(computer) {
        this.name = "helmline.computer." + computer;
        this.own = {}; // for a browser that keeps nothing
    }

    get all() {
        try {
            return JSON.parse(localStorage.getItem(this.name)) ?? this.own;
        } catch {
            return this.own;
        }
    }

    get pin() { return this.all.pin; }
    get user() { return this.all.user; }

    // keep remembers what is in more.
    keep(more) {
        this.own = { ...this.all, ...more };
        try {
            localStorage.setItem(this.name, JSON.stringify(this.own));
        } catch {
            // it asks again when the page is opened again
        }
    }
}
