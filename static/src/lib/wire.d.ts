/** Generated from the server's code by `manage.py docs`: change it there. */

/**
 * The data that the chat page is rendered with, including `FirstPage` and `Models`.
 *
 * `error` is why the conversation in the URL can't be shown.
 */
export interface Boot {
  user: BootUser;
  csrf: string;
  limits: BootLimits;
  urls: BootUrls;
  privacy: BootPrivacy;
  conversations: Conversation[];
  more: boolean;
  pinned: Conversation[];
  folders: Folder[];
  archived: boolean;
  counts: Record<string, number>;
  models: Model[];
  assistants: Assistant[];
  default_model: string | null;
  features: string[];
  quotas: Quota[];
  conversation: Opening | null;
  error: ErrorShape | null;
}

export interface BootUser {
  name: string;
  is_staff: boolean;
}

export interface BootLimits {
  message_chars: number;
  attachment_mb: number;
  attachments: number;
}

/** URLs for the page. `catalogue` is empty for users who are not staff. */
export interface BootUrls {
  logout: string;
  login: string;
  admin: string;
  set_language: string;
  catalogue: string;
}

/**
 * Rules on what is kept.
 *
 * `temporary_minutes` after an answer of a temporary chat its text is deleted from the server.
 * `retention_days` 0: no limit.
 */
export interface BootPrivacy {
  temporary: "allowed" | "forbidden" | "forced";
  temporary_minutes: number;
  retention_days: number;
  reads: AdminReadNotice[];
}

/** A read by an administrator that its owner has not confirmed; null: the chat is deleted. */
export interface AdminReadNotice {
  id: string;
  reader: string;
  reason: string;
  created_at: string;
  conversation: string | null;
  title: string;
}

/**
 * A conversation without its messages.
 *
 * `head` is the last message of the shown branch. `keep_latest`: the oldest messages may be
 * left out of prompts.
 */
export interface Conversation {
  id: string;
  title: string;
  head: string | null;
  keep_latest: boolean;
  folder: string | null;
  pinned: boolean;
  archived: boolean;
  created_at: string;
  updated_at: string;
}

export interface Folder {
  id: string;
  name: string;
}

/**
 * A model that the user may choose.
 *
 * `size` is in bytes. `custom`: it has its own configuration. `base`: it only continues
 * text.
 */
export interface Model {
  name: string;
  size: number;
  custom: boolean;
  state: "failed" | "loading" | "ready" | "tuning" | "unloaded" | "unreachable" | "waiting";
  base?: boolean;
}

/** An assistant that the user may choose. `own`: it is the user's, not the organization's. */
export interface Assistant {
  id: string;
  name: string;
  icon: string;
  description: string;
  model: string;
  suggestions: string[];
  own: boolean;
}

/**
 * A quota of the user: `text` says how much per which period.
 *
 * `shared`: with all users of a group. `reserved` is held by open requests. From `warn_at`
 * used on, the user is warned. `renews_at` is ISO 8601.
 */
export interface Quota {
  text: string;
  shared: boolean;
  amount: number;
  used: number;
  reserved: number;
  left: number;
  warn_at: number;
  renews_at: string;
}

/**
 * A conversation, its tree, and the last messages of the shown branch.
 *
 * `collections` are those attached to it that the user may read now.
 */
export interface Opening {
  conversation: Conversation;
  tree: [string, number, number][];
  messages: Message[];
  collections: CollectionFace[];
}

/** Only answers of this product have a `generation`. */
export interface Message {
  id: string;
  conversation: string;
  parent: string | null;
  role: "assistant" | "system" | "user";
  content: string;
  created_at: string;
  attachments: Attachment[];
  generation: Generation | null;
}

/**
 * An attached document without its text.
 *
 * `size` is in bytes. `tokens` are those of the text for the model that was chosen at the
 * upload. `notes` say what could not be read or was guessed. Of a message: `send` is what is
 * sent of it, `send_pages` the chosen page ranges.
 */
export interface Attachment {
  id: string;
  name: string;
  size: number;
  kind: string;
  pages: number | null;
  characters: number;
  tokens: number | null;
  notes: string[];
  send: "matches" | "pages" | "whole";
  send_pages: string;
}

/**
 * The generation of an answer.
 *
 * `sources` are the passages of documents that it was given; null: no documents were searched.
 * `left_out` counts messages that did not fit in the prompt. `timings` are in milliseconds.
 */
export interface Generation {
  id: string;
  state: "cancelled" | "done" | "failed" | "interrupted" | "queued" | "running";
  model: string;
  assistant: AssistantFace | null;
  finish_reason: string;
  error: ErrorShape | null;
  usage: Usage;
  left_out: number;
  timings: Record<string, number>;
  syntax: OutputSyntax;
  queued_at: string;
  started_at: string | null;
  finished_at: string | null;
  sources: Sources | null;
}

export interface AssistantFace {
  id: string;
  name: string;
  icon: string;
}

export interface ErrorShape {
  code: string;
  message: string;
  permanent: boolean;
  [detail: string]: unknown;
}

export interface Usage {
  prompt_tokens: number | null;
  cached_tokens: number | null;
  completion_tokens: number | null;
}

/**
 * How a model marks reasoning, answer and tool calls in its text; `output.py` parses it.
 *
 * Answers begin with `think_open` even where the template wrote it, so that the text alone shows
 * where its reasoning is. `answer_open` and `answer_close` enclose the answer after the
 * reasoning, `call_open` and `call_close` the calls of `marked`. An empty string: the model
 * has no such mark.
 */
export interface OutputSyntax {
  think_open?: string;
  think_close?: string;
  tools?: "" | "harmony" | "hermes" | "llama" | "marked" | "mistral";
  answer_open?: string;
  answer_close?: string;
  call_open?: string;
  call_close?: string;
}

/**
 * The passages that an answer was given, and how they were found.
 *
 * `mode`: by words, by words and vectors, or also ordered by a reranker model. `missing` says
 * why not better: `no_model`, `engine_unavailable`, `index_building` or `language` (no
 * vectors), `failed` (nothing was searched), `no_room` (no passage fits in the context),
 * `spread` (nothing matched an attachment: passages of all of it). `searched` counts
 * documents. `removed` counts the numbers removed from the answer that were none of a passage.
 */
export interface Sources {
  mode: string;
  missing: string;
  searched: number;
  documents: CitedDocument[];
  passages: CitedPassage[];
  removed: number;
}

/**
 * A document with passages in a prompt.
 *
 * `state`: it may be read now, the user lost access to it, or it was deleted; then its name is
 * not known. `pages` is its number of pages, null if it has none.
 */
export interface CitedDocument {
  id: string;
  kind: "attachment" | "document";
  name: string;
  pages: number | null;
  state: "available" | "deleted" | "denied";
}

/**
 * A passage under its number. `document` is the id in `Sources.documents`.
 *
 * `passage` is null if it can't be shown any more: the document has changed or is not available.
 */
export interface CitedPassage {
  number: number;
  document: string;
  page: number | null;
  last_page: number | null;
  passage: number | null;
}

/** A collection of documents that is searched for a conversation's questions. */
export interface CollectionFace {
  id: string;
  name: string;
}

/**
 * The first page of conversations, with what every view shows.
 *
 * `archived` says whether the archive has entries, `counts` has the number of conversations by
 * folder and of the archive.
 */
export interface FirstPage {
  conversations: Conversation[];
  more: boolean;
  pinned: Conversation[];
  folders: Folder[];
  archived: boolean;
  counts: Record<string, number>;
}

export interface Page {
  conversations: Conversation[];
  more: boolean;
}

export interface Messages {
  messages: Message[];
}

/** A changed conversation, and the folder that it was in. */
export interface Moved {
  id: string;
  folder: string | null;
}

/**
 * A cited passage in its document.
 *
 * `start` and `end` are characters of the document's text, `text` is that range.
 * `changed`: the document has another version now; then the passage itself is not known.
 */
export interface Quoted {
  kind: "attachment" | "document";
  id: string;
  name: string;
  file_kind: string;
  pages: number | null;
  page: number | null;
  last_page: number | null;
  start: number;
  end: number;
  text: string;
  heading: string;
  changed: boolean;
}

/** `features` are those that the user may use. */
export interface Models {
  models: Model[];
  assistants: Assistant[];
  default_model: string | null;
  features: string[];
  quotas: Quota[];
}

export interface Quotas {
  quotas: Quota[];
}

/**
 * Details of a model.
 *
 * `context` is the tokens of an answer and everything before it, `parameters` a text such as
 * `135M`; they are 0 and empty if the file can't be read. A `remote` model runs on another
 * server; with a `shared_cache` its engine does not keep the prompt caches of users apart.
 */
export interface ModelDetails {
  context: number;
  description: string;
  parameters: string;
  reasoning: boolean;
  remote: boolean;
  shared_cache: boolean;
  tools: boolean;
}

/** A page of results. `before` is the cursor of the next page, null at the end. */
export interface SearchResults {
  before: string | null;
  results: SearchResult[];
}

/** A matching conversation. `title` alternates between plain text and matches. */
export interface SearchResult {
  conversation: Conversation;
  hits: SearchHit[];
  title: string[];
}

/** A matching message. `snippet` alternates between plain text and matches. */
export interface SearchHit {
  created_at: string;
  message: string;
  role: string;
  snippet: string[];
}

/** A share as its owner sees it. `address` is a path, `messages` a count. */
export interface SharedCopy {
  address: string;
  messages: number;
  taken_at: string;
}

/**
 * The numbers of imported and of already known conversations, and the refused ones.
 *
 * `left_out` counts parts of messages that are not supported (pictures, files, tools).
 */
export interface ImportReport {
  known: number;
  left_out: number;
  refused: Refusal[];
  taken: number;
}

export interface Refusal {
  reason: string;
  title: string;
}

/** Documents are being searched for the turn of `command`, an id; its response follows. */
export interface Searching {
  type: "searching";
  command: string;
}

/**
 * A turn command is saved and queued, and the sender is subscribed.
 *
 * `user_message` is null for `Regenerate` and `Continue`. A continued answer has a new
 * generation, whose stream begins with the existing text.
 */
export interface Accepted {
  type: "accepted";
  id: string;
  conversation: Conversation;
  assistant_message: Message;
  user_message: Message | null;
}

/**
 * A `SendTemporary` is queued, and the sender is subscribed.
 *
 * The message of its `Ended` has the generation's ID, and no conversation and parent: only the
 * page knows them.
 */
export interface TemporaryAccepted {
  type: "temporary_accepted";
  id: string;
  generation: Generation;
}

/** The `Stop` was forwarded; the generation's `Ended` follows. */
export interface Stopped {
  type: "stopped";
  id: string;
  generation: string;
}

/**
 * Token counts.
 *
 * `context` is the model's context length for prompt and answer. `estimated`: the model isn't
 * loaded, or was too busy to count. Without `branch` only `message` is counted.
 * `attachments` are by id: the tokens of what is sent of each. Of those in `matching` the
 * passages that match the question are sent. `passages` is the most that passages of documents
 * take, null if none are searched.
 */
export interface TokenCounts {
  type: "measured";
  id: string;
  context: number;
  message: number;
  estimated: boolean;
  system: number | null;
  history: number | null;
  attachments: Record<string, number> | null;
  matching: string[] | null;
  passages: number | null;
}

/**
 * Repeated while an answer is queued, also after its model crashed.
 *
 * `ahead` counts the requests before it; `model` is `ready`, `tuning`, `loading` (with
 * `progress` 0 to 1), `waiting` (for memory or a host), `unreachable` (its engines don't
 * respond) or `failed`. `seconds` is the estimated wait; null unless the model is ready and
 * enough answers were measured.
 */
export interface Waiting {
  type: "waiting";
  generation: string;
  ahead: number;
  model: string;
  progress: number | null;
  seconds: number | null;
}

/**
 * A slot generates the answer. Attempt 2 and later continue after a fault.
 *
 * `syntax` has the markers of reasoning and tool calls.
 */
export interface Started {
  type: "started";
  generation: string;
  attempt: number;
  syntax: OutputSyntax;
}

/** Text of an answer. `reasoning_ms` is the duration of its reasoning, once it has ended. */
export interface Delta {
  type: "delta";
  generation: string;
  start: number;
  end: number;
  text: string;
  reasoning_ms?: number | null;
}

/**
 * Heartbeat of an answer without new text, about every two seconds.
 *
 * A client that gets none is not being served.
 */
export interface Alive {
  type: "alive";
  generation: string;
}

/**
 * Sent once, after all text.
 *
 * `cursor` is the last delta's `end`: a client at another cursor subscribes again. `message`
 * is the saved answer; the client shows its content if it differs from the streamed text.
 */
export interface Ended {
  type: "ended";
  generation: string;
  state: "cancelled" | "done" | "failed" | "interrupted";
  cursor: number;
  message: Message;
}

/**
 * A hint that one of the user's conversations is new, renamed, deleted or has a new answer.
 *
 * The client fetches it again if it shows it. `conversation` null: many conversations or a
 * folder changed, so the client fetches its list and the conversation that it shows. May be lost;
 * never needed for text.
 */
export interface Changed {
  type: "changed";
  conversation: string | null;
  what: "created" | "deleted" | "updated";
}

/** The notices above the page have changed; `digest` names the new ones. */
export interface Notices {
  type: "notices";
  digest: string;
}

/**
 * A refused command or failed generation.
 *
 * `id` and `generation` name what was refused, if known. The message of `error` is in the
 * user's language.
 */
export interface Error {
  type: "error";
  error: ErrorShape;
  id: string | null;
  generation: string | null;
}

export type ServerEvent =
  | Searching
  | Accepted
  | TemporaryAccepted
  | Stopped
  | TokenCounts
  | Waiting
  | Started
  | Delta
  | Alive
  | Ended
  | Changed
  | Notices
  | Error;

/**
 * Add a user message after `parent` and request an answer.
 *
 * `parent` is null for the first message of a conversation. `conversation` null starts a new
 * one; its id is in `Accepted`. `keep_latest`, if not null, changes the conversation's setting,
 * `collections` the documents that are searched for its questions.
 * An `assistant` has its own model. `selections` say what is sent of the attachments; of those
 * without one, what fits.
 */
export interface Send {
  type: "send";
  id: string;
  content: string;
  model: string;
  conversation?: string | null;
  parent?: string | null;
  params?: SamplingParams;
  keep_latest?: boolean | null;
  assistant?: string | null;
  attachments?: string[];
  selections?: Chosen[];
  collections?: string[] | null;
}

/**
 * Sampling of one sequence; ranges are checked when a frame or request is decoded.
 *
 * `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and penalties of 1 (repeat)
 * or 0 (presence, frequency) disable the stage. `repeat_last_n` is in tokens, -1 for the whole
 * context. `seed` None draws a random one. `max_tokens` None means up to the end of the
 * context. Before `min_tokens` the model can't end the answer. `logit_bias` is (token, bias)
 * pairs. `top_logprobs` None returns no log probabilities, a number those of each token and of
 * that many of the most likely alternatives. Any of `stop_tokens` ends the answer and is not
 * part of it. The answer conforms to `json_schema` (JSON mode is `{"type": "object"}`), or
 * else to `grammar` (GBNF). `stop_repetition` ends an answer that repeats itself
 * (`repetition.py`), not before `min_tokens` and not with `ignore_eos`.
 */
export interface SamplingParams {
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  typical_p?: number;
  repeat_penalty?: number;
  repeat_last_n?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  seed?: number | null;
  stop?: string[];
  stop_tokens?: number[];
  max_tokens?: number | null;
  ignore_eos?: boolean;
  min_tokens?: number;
  logit_bias?: [number, number][];
  top_logprobs?: number | null;
  json_schema?: Record<string, unknown> | null;
  grammar?: string;
  stop_repetition?: boolean;
}

/** The user's choice for one attachment. `pages` are page ranges, for `pages` only. */
export interface Chosen {
  attachment: string;
  send: "matches" | "pages" | "whole";
  pages?: string;
}

/**
 * Add a sibling of the user message `message` with other content, and request an answer.
 *
 * `attachments` null keeps those of the message. `selections` are as in `Send`.
 */
export interface Edit {
  type: "edit";
  id: string;
  message: string;
  content: string;
  model: string;
  params?: SamplingParams;
  keep_latest?: boolean | null;
  assistant?: string | null;
  attachments?: string[] | null;
  selections?: Chosen[];
}

/** Request a sibling of the answer `message`. */
export interface Regenerate {
  type: "regenerate";
  id: string;
  message: string;
  model: string;
  params?: SamplingParams;
  keep_latest?: boolean | null;
  assistant?: string | null;
}

/**
 * Continue the truncated answer `message` with the same model.
 *
 * It was truncated by the length limit, a stop or a fault, and must be the last message of its
 * branch.
 */
export interface Continue {
  type: "continue";
  id: string;
  message: string;
}

/**
 * Request an answer in a temporary chat, whose messages only the page has.
 *
 * `messages` is the branch up to the user message to answer. `resume_text` is the text of a
 * truncated answer to continue. `collections` are searched for the answer.
 */
export interface SendTemporary {
  type: "temporary";
  id: string;
  messages: TemporaryMessage[];
  model: string;
  params?: SamplingParams;
  keep_latest?: boolean;
  assistant?: string | null;
  resume_text?: string;
  collections?: string[];
}

/** A message of a temporary chat; `syntax` is how the text of an answer marks reasoning. */
export interface TemporaryMessage {
  role: "assistant" | "user";
  content: string;
  syntax?: OutputSyntax;
}

/**
 * Count the tokens of `content`.
 *
 * With `branch` also of the rest of the prompt: the conversation up to `parent`, as it is sent
 * to the model, and attachments. The page sends the `messages` of a temporary chat instead of
 * `conversation` and `parent`. A later command replaces a pending one. `collections` are
 * those of a conversation that is not saved.
 */
export interface CountTokens {
  type: "measure";
  id: string;
  model: string;
  content?: string;
  branch?: boolean;
  conversation?: string | null;
  parent?: string | null;
  messages?: TemporaryMessage[];
  attachments?: string[];
  selections?: Chosen[];
  collections?: string[];
  assistant?: string | null;
}

export interface Stop {
  type: "stop";
  id: string;
  generation: string;
}

/** Follow a generation from `cursor` (0: from its first character). */
export interface Subscribe {
  type: "subscribe";
  generation: string;
  cursor?: number;
}

export interface Unsubscribe {
  type: "unsubscribe";
  generation: string;
}

/**
 * The client has applied all text up to `cursor`.
 *
 * Without acknowledgements the server sends a bounded amount only; pending text is merged into the
 * next delta.
 */
export interface Ack {
  type: "ack";
  generation: string;
  cursor: number;
}

export type Command =
  | Send
  | Edit
  | Regenerate
  | Continue
  | SendTemporary
  | CountTokens
  | Stop
  | Subscribe
  | Unsubscribe
  | Ack;

/** The ratings of a conversation by the ID of the message. */
export interface Ratings {
  ratings: Record<string, Rating>;
}

/**
 * A rating as the page sends and gets it.
 *
 * `shared` is whether administrators may read the conversation up to the answer.
 */
export interface Rating {
  vote: "down" | "up";
  reason: string;
  comment: string;
  shared: boolean;
}

/**
 * A change of the conversations `ids`, or of all in a `view` (see `listing.everything`).
 *
 * `folder` is the target of "move", null for none.
 */
export interface BulkAction {
  action: "archive" | "delete" | "move" | "pin" | "restore" | "unarchive" | "unpin";
  ids?: string[];
  view?: string | null;
  folder?: string | null;
}

/** The fields of a conversation that its owner may change. */
export interface Changes {
  title?: string | null;
  head?: string | null;
  keep_latest?: boolean | null;
  collections?: string[] | null;
}

/** The data that a page is rendered with. `hosts` is null if Redis does not answer. */
export interface LivePage {
  csrf: string;
  hosts?: HostRow[] | null;
  jobs?: JobRow[];
}

/** A host. `draining`: it ends soon and takes no more requests. */
export interface HostRow {
  id: string;
  name: string;
  draining: boolean;
  memory: HostMemory | null;
  devices: HostDevice[];
  models: ModelRow[];
}

/**
 * Memory in bytes of the machine, or of the part of it that the host may use.
 *
 * `budget` is for models, of which `committed` is promised to loaded and loading ones.
 */
export interface HostMemory {
  total: number;
  available: number;
  budget: number;
  committed: number;
}

/**
 * Memory in bytes of a device.
 *
 * `free` is from the last query, `promised` what models may take. `shared` if it is the
 * machine's own memory.
 */
export interface HostDevice {
  name: string;
  description: string;
  free: number;
  total: number;
  promised: number;
  shared: boolean;
}

/**
 * A model on a host; `memory` is in bytes, `context` in tokens per slot.
 *
 * `on_devices` of the `layers` are on GPUs. A `remote` model is computed by engines.
 */
export interface ModelRow {
  name: string;
  state: "failed" | "loading" | "ready" | "tuning" | "unreachable" | "waiting";
  state_text: string;
  progress: number | null;
  busy: number;
  slots: number;
  context: number;
  memory: number;
  reason: string;
  layers: number;
  on_devices: number;
  device_problem: string;
  weights: string;
  remote: boolean;
}

/**
 * A job; `done` and `total` are in bytes, `speed` in bytes/s, `left` in seconds.
 *
 * `can` lists the actions that are possible now.
 */
export interface JobRow {
  id: string;
  kind: string;
  target: string;
  source: string;
  state: "cancelled" | "done" | "failed" | "paused" | "queued" | "running";
  state_text: string;
  wanted: string;
  stage: string;
  done: number;
  total: number;
  speed: number | null;
  left: number | null;
  error: string;
  by: string;
  at: string;
  can: string[];
}

/** A message of the socket. */
export interface Snapshot {
  hosts: HostRow[];
  jobs: JobRow[];
}

/**
 * The state of the site. `regions` is HTML by ID of the element that shows it.
 *
 * `at` is in seconds since the epoch. `charts` is null if the database does not answer.
 */
export interface OverviewNow {
  at: number;
  regions: Record<string, string>;
  counters: TokenCounter[];
  charts: OverviewCharts | null;
}

/** Tokens that a model on a host has generated since it was loaded. */
export interface TokenCounter {
  key: string;
  decoded: number;
}

/** Series of the last hour, one value per minute; see `activity.Series`. */
export interface OverviewCharts {
  minutes: number[];
  requests: number[];
  errors: number[];
  tokens: number[];
  running: number[];
  waiting: number[];
  ttft_p50: (number | null)[];
  ttft_p95: (number | null)[];
}
