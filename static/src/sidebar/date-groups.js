/** Group conversations by date. Pure. */

/**
 * @typedef {{key: string, kind: "today" | "yesterday" | "week" | "month", date: Date}} Group
 */

/** @param {Date} date */
function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate());
}

/**
 * Return the group of a conversation that changed at `date`, relative to `now`.
 * @param {Date} date
 * @param {Date} now
 * @returns {Group}
 */
export function groupOf(date, now) {
  // Rounded, since a day can have 23 or 25 hours.
  const days = Math.round((midnight(now).getTime() - midnight(date).getTime()) / 86_400_000);
  if (days <= 0) {
    return { key: "today", kind: "today", date };
  }
  if (days === 1) {
    return { key: "yesterday", kind: "yesterday", date };
  }
  if (days <= 7) {
    return { key: "week", kind: "week", date };
  }
  return { key: `${date.getFullYear()}-${date.getMonth() + 1}`, kind: "month", date };
}

/**
 * @template {{updated_at: string}} T
 * @param {T[]} items newest first
 * @param {Date} now
 * @returns {{group: Group, items: T[]}[]}
 */
export function byDay(items, now) {
  /** @type {{group: Group, items: T[]}[]} */
  const groups = [];
  for (const item of items) {
    const group = groupOf(new Date(item.updated_at), now);
    if (groups.at(-1)?.group.key !== group.key) {
      groups.push({ group, items: [] });
    }
    groups.at(-1)?.items.push(item);
  }
  return groups;
}
