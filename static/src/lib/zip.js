/**
 * Read selected files of a ZIP archive without loading the whole archive.
 * After APPNOTE.TXT 6.3.10; stored and deflated entries below 4 GiB.
 */

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_MAX = 65_557;

/**
 * @param {Blob} archive
 * @param {(name: string) => boolean} wanted
 * @returns {Promise<string[]>} the texts of the files, in the order of the archive
 */
export async function textsIn(archive, wanted) {
  const tail = await view(archive, Math.max(0, archive.size - END_MAX), archive.size);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) {
    end -= 1;
  }
  if (end < 0) {
    throw new Error("not a ZIP archive");
  }
  const start = tail.getUint32(end + 16, true);
  const entries = await view(archive, start, start + tail.getUint32(end + 12, true));
  const texts = [];
  for (let at = 0; at + 46 <= entries.byteLength && entries.getUint32(at, true) === ENTRY;) {
    const [nameLength, extra, comment] = [28, 30, 32].map((place) =>
      entries.getUint16(at + place, true),
    );
    const name = new TextDecoder().decode(new Uint8Array(entries.buffer, at + 46, nameLength));
    if (wanted(name)) {
      const method = entries.getUint16(at + 10, true);
      const size = entries.getUint32(at + 20, true);
      const header = entries.getUint32(at + 42, true);
      texts.push(await content(archive, header, method, size));
    }
    at += 46 + nameLength + extra + comment;
  }
  return texts;
}

/**
 * @param {Blob} archive
 * @param {number} header offset of the file's local header
 * @param {number} method
 * @param {number} size of the packed content, in bytes
 */
async function content(archive, header, method, size) {
  const local = await view(archive, header, header + 30);
  const start = header + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  const packed = archive.slice(start, start + size);
  if (method === 0) {
    return packed.text();
  }
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).text();
}

/**
 * @param {Blob} blob
 * @param {number} start
 * @param {number} end
 */
async function view(blob, start, end) {
  return new DataView(await blob.slice(start, end).arrayBuffer());
}
