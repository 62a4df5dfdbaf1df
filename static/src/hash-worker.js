/** Worker that computes SHA-256 of files in chunks: `crypto.subtle` needs HTTPS and all bytes. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

const CHUNK = 4 * 1024 * 1024;

addEventListener("message", async (event) => {
  /** @type {{id: number, file: File}} */
  const { id, file } = event.data;
  try {
    const hash = sha256.create();
    for (let at = 0; at < file.size; at += CHUNK) {
      hash.update(new Uint8Array(await file.slice(at, at + CHUNK).arrayBuffer()));
    }
    postMessage({ id, sha256: bytesToHex(hash.digest()) });
  } catch {
    // The file was changed or removed on the disk since it was chosen.
    postMessage({ id, sha256: null });
  }
});
