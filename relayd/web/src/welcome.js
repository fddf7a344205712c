// A link may bring the code behind a #, which the browser sends to nobody: it goes into the form, and out of the address.
const behind = location.hash.slice(1);
if (behind) {
    history.replaceState(null, "", location.pathname);
    try {
        document.getElementById("code").value = decodeURIComponent(behind);
        document.getElementById("ask").requestSubmit();
    } catch { // half an escape
        document.getElementById("damaged").hidden = false;
    }
}
