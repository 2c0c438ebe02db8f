/** A CPU profile as a flame graph: one SVG that any browser shows, with nothing to install. */

/** What `--cpu-prof` and the profiler of the inspector write, as far as it is used here. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: {
      readonly functionName: string
      readonly url: string
      /** From 0. */
      readonly lineNumber: number
    }
    readonly children?: readonly number[]
  }[]
  /** Which node was running, and the microseconds since the sample before. */
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
}

/** A function where it was called from, with all that it called. */
export interface Frame {
  readonly name: string
  /** File and line, empty for what is not JavaScript. */
  readonly place: string
  selfUs: number
  totalUs: number
  readonly children: Map<string, Frame>
}

/** What is no work: the event loop waits, or a child process of the engine for its next message. */
const WAITING = new Set(['(idle)', 'read', 'readSync'])

/** The calls of a profile as a tree, without the time in which the process only waited. */
export function callTree(profile: CpuProfile): Frame {
  const root = newFrame('all', '')
  const byId = new Map(profile.nodes.map(node => [node.id, node]))
  const parents = new Map<number, number>()
  for (const { id, children = [] } of profile.nodes) {
    for (const child of children) parents.set(child, id)
  }
  const selfUs = new Map<number, number>()
  profile.samples.forEach((id, at) => {
    selfUs.set(id, (selfUs.get(id) ?? 0) + Math.max(0, profile.timeDeltas[at] ?? 0))
  })
  for (const [id, us] of selfUs) {
    const path: { name: string; place: string }[] = []
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const { functionName, url, lineNumber } = byId.get(at)?.callFrame ?? NOWHERE
      if (functionName === '(root)') continue
      const name = functionName === '' ? '(anonymous)' : functionName
      path.unshift({ name, place: url === '' ? '' : `${shortened(url)}:${lineNumber + 1}` })
    }
    const { name = '', place = '' } = path.at(-1) ?? {}
    if (WAITING.has(name) && !place.startsWith('src/')) continue
    add(root, path, us)
  }
  return root
}

const NOWHERE = { functionName: '(unknown)', url: '', lineNumber: 0 }

function newFrame(name: string, place: string): Frame {
  return { name, place, selfUs: 0, totalUs: 0, children: new Map() }
}

function add(root: Frame, path: readonly { name: string; place: string }[], us: number): void {
  let frame = root
  frame.totalUs += us
  for (const { name, place } of path) {
    const key = `${name} ${place}`
    const next = frame.children.get(key) ?? newFrame(name, place)
    frame.children.set(key, next)
    next.totalUs += us
    frame = next
  }
  frame.selfUs += us
}

/** From the root of the sources on; what Node itself brings begins with `node:` anyway. */
function shortened(url: string): string {
  return url.replace(/^file:\/\/.*\/(?=(?:src|dist|node_modules|bench)\/)/, '')
}

/** The functions with the most time of their own, wherever they were called from. */
export function busiest(root: Frame, count: number): Omit<Frame, 'children' | 'totalUs'>[] {
  const sums = new Map<string, Omit<Frame, 'children' | 'totalUs'>>()
  const visit = (frame: Frame): void => {
    const key = `${frame.name} ${frame.place}`
    const { name, place } = frame
    const sum = sums.get(key) ?? { name, place, selfUs: 0 }
    sum.selfUs += frame.selfUs
    sums.set(key, sum)
    for (const child of frame.children.values()) visit(child)
  }
  visit(root)
  return [...sums.values()].sort((a, b) => b.selfUs - a.selfUs).slice(0, count)
}

const WIDTH = 1400
const ROW_HEIGHT = 18
const HEAD_HEIGHT = 30
const CHARACTER_WIDTH = 6.6
/** What is narrower can't be seen. */
const WIDTH_MIN = 0.5

/** Callers below, callees above; a box is as wide as its share of the time. */
export function flameGraph(root: Frame, title: string): string {
  const boxes: string[] = []
  const height = HEAD_HEIGHT + (depthOf(root, WIDTH) + 1) * ROW_HEIGHT
  const draw = (frame: Frame, x: number, depth: number): void => {
    const width = (frame.totalUs / root.totalUs) * WIDTH
    if (!(width >= WIDTH_MIN)) return
    boxes.push(box(frame, { x, y: height - (depth + 1) * ROW_HEIGHT, width }, root.totalUs))
    let left = x
    const children = [...frame.children.values()].sort((a, b) => b.totalUs - a.totalUs)
    for (const child of children) {
      draw(child, left, depth + 1)
      left += (child.totalUs / root.totalUs) * WIDTH
    }
  }
  draw(root, 0, 0)
  const style = 'font: 11px monospace'
  const head = `<text x="4" y="18" style="font: 14px sans-serif">${escaped(title)}</text>`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" style="${style}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    head,
    ...boxes,
    '</svg>',
    '',
  ].join('\n')
}

function depthOf(frame: Frame, width: number): number {
  if (!(width >= WIDTH_MIN)) return 0
  const below = [...frame.children.values()].map(child =>
    depthOf(child, (width * child.totalUs) / frame.totalUs),
  )
  return 1 + Math.max(0, ...below)
}

function box(
  frame: Frame,
  at: { readonly x: number; readonly y: number; readonly width: number },
  allUs: number,
): string {
  const { name, place, totalUs, selfUs } = frame
  const share = (us: number): string => `${((us / allUs) * 100).toFixed(1)} %`
  const where = place === '' ? '' : ` (${place})`
  const facts = `${name}${where}: ${share(totalUs)}, of its own ${share(selfUs)}`
  const room = Math.floor((at.width - 4) / CHARACTER_WIDTH)
  const label = room < 3 ? '' : name.length > room ? `${name.slice(0, room - 1)}…` : name
  const x = at.x.toFixed(1)
  const text = `<text x="${(at.x + 2).toFixed(1)}" y="${at.y + 13}">${escaped(label)}</text>`
  return (
    `<g><title>${escaped(facts)}</title><rect x="${x}" y="${at.y}" ` +
    `width="${Math.max(at.width - 0.5, 0.3).toFixed(1)}" height="${ROW_HEIGHT - 1}" ` +
    `fill="${colourOf(place)}"/>${label === '' ? '' : text}</g>`
  )
}

/** The product's own code, that of Node and of packages, and what is no JavaScript. */
function colourOf(place: string): string {
  if (/^(?:src|dist)\//.test(place)) return '#ffa94d'
  if (place.startsWith('node:')) return '#a5d8ff'
  return place === '' ? '#dee2e6' : '#b2f2bb'
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
