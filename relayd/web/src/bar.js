// The bar above the desktop.
const $ = id => document.getElementById(id);

export class Bar {
    // leave ends the session.
    constructor(element, leave) {
        this.rfb = null;
        this.left = false; // the person has ended it
        const on = (id, event, f) => $(id).addEventListener(event, f);
        on("size", "change", () => this.size());
        on("quality", "change", () => this.quality());
        on("ctrl-alt-del", "click", () => this.rfb.sendCtrlAltDel());
        on("full", "click", () => document.fullscreenElement ? document.exitFullscreen() : $("desk").requestFullscreen());
        on("clipboard-open", "click", () => $("clipboard").showModal());
        on("clipboard-send", "click", () => this.rfb.clipboardPasteFrom($("clipboard-text").value));
        on("leave", "click", () => {
            this.left = true;
            leave();
        });
        for (const id of ["size", "quality", "ctrl-alt-del", "full"]) on(id, id === "size" || id === "quality" ? "change" : "click", () => this.rfb.focus());
        // The desktop takes every key, so one combination leads out of it.
        addEventListener("keydown", e => {
            if (!e.ctrlKey || !e.altKey || !e.shiftKey || e.code !== "KeyB" || $("desk").hidden) return;
            e.preventDefault();
            e.stopImmediatePropagation();
            element.querySelector("select, button").focus();
        }, true);
    }

    attach(rfb) {
        this.rfb = rfb;
        $("ctrl-alt-del").disabled = $("clipboard-send").disabled = rfb.viewOnly;
        this.size();
        this.quality();
    }

    size() {
        const way = $("size").value;
        this.rfb.resizeSession = way === "desktop";
        this.rfb.scaleViewport = way !== "actual";
    }

    quality() {
        this.rfb.qualityLevel = Number($("quality").value);
    }

    // copied shows what was copied on the computer, and puts it into this machine's clipboard where the browser lets it.
    copied(text) {
        $("clipboard-text").value = text;
        if (document.hasFocus()) navigator.clipboard?.writeText(text).catch(() => {}); // it stands in the dialogue all the same
    }
}
