/** Files of a drop or a file picker, with their paths relative to what was chosen. */

/** @typedef {{file: File, path: string}} Chosen */

/** Files of one drop; more are better synchronized by the command. */
export const MOST_FILES = 10_000;
/** Files that systems and programs keep beside documents. */
const SYSTEM = /^(?:\.DS_Store|Thumbs\.db|desktop\.ini|~\$.*|\._.*)$/iu;
const SYSTEM_FOLDER = /(?:^|\/)(?:\.git|\.svn|__MACOSX|node_modules)\//u;

/**
 * Return the files without those of systems and programs.
 * @param {Chosen[]} chosen
 * @returns {{files: Chosen[], skipped: number}}
 */
export function sift(chosen) {
  const files = chosen.filter(
    ({ path }) => !SYSTEM.test(path.split("/").at(-1) ?? "") && !SYSTEM_FOLDER.test(`${path}`),
  );
  return { files, skipped: chosen.length - files.length };
}

/**
 * @param {Iterable<File>} files of a picker
 * @returns {Chosen[]}
 */
export function picked(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/**
 * Return the files of a drop, also those in folders. Call it in the event: the browser forgets
 * what was dropped afterwards.
 * @param {DataTransfer} data
 * @returns {Promise<Chosen[]>} at most one more than `MOST_FILES`
 */
export function dropped(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (entries.every((entry) => entry === null)) {
    return Promise.resolve(picked(data.files));
  }
  return walk(entries.filter((entry) => entry !== null));
}

/** @param {FileSystemEntry[]} entries */
async function walk(entries) {
  /** @type {Chosen[]} */
  const found = [];
  const open = [...entries];
  while (open.length > 0 && found.length <= MOST_FILES) {
    const entry = /** @type {FileSystemEntry} */ (open.shift());
    if (entry.isDirectory) {
      open.push(...(await children(/** @type {FileSystemDirectoryEntry} */ (entry))));
    } else {
      const file = await new Promise((resolve) =>
        /** @type {FileSystemFileEntry} */ (entry).file(resolve, () => resolve(null)),
      );
      if (file) {
        found.push({ file, path: entry.fullPath.replace(/^\//u, "") });
      }
    }
  }
  return found;
}

/**
 * @param {FileSystemDirectoryEntry} folder
 * @returns {Promise<FileSystemEntry[]>}
 */
async function children(folder) {
  const reader = folder.createReader();
  const found = [];
  // Each call returns a part, the last one nothing.
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const part = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (part.length === 0) {
      return found;
    }
    found.push(...part);
  }
}
