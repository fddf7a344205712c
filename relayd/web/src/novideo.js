// Imported before noVNC, which tries the browser's H.264 decoder with a frame before anything else of it runs: with a decoder that never answers, the page
// would stay as empty as it came. Computers send no H.264, so noVNC is to find no such decoder.
delete window.VideoDecoder;
