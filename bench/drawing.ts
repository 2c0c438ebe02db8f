/** Draws charts as SVG, without a browser. */
import { BarChart, LineChart } from 'echarts/charts'
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components'
import { init, use } from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'

use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer])

const WIDTH = 860
const HEIGHT = 500
const FONT = { fontFamily: 'sans-serif', fontSize: 13 }
/** Of series, in their order; the first is the strongest. */
export const COLOURS = [
  '#d9480f',
  '#1971c2',
  '#2f9e44',
  '#94d82d',
  '#9c36b5',
  '#495057',
  '#f2b705',
  '#0c8599',
] as const

export interface Picture {
  readonly name: string
  readonly title: string
  readonly svg: string
}

/** `option` is what echarts draws; title, legend and fonts are alike in all pictures. */
export function draw(
  { name, title, height = HEIGHT }: { name: string; title: string; height?: number },
  option: object,
): Picture {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    textStyle: FONT,
    title: { text: title, left: 'center', textStyle: { ...FONT, fontSize: 15 } },
    // Widths of texts are guessed where there is no browser: a wide gap keeps names apart.
    legend: { bottom: 0, itemGap: 36, textStyle: { ...FONT, fontSize: 12 } },
    grid: { left: 80, right: 60, top: 60, bottom: 130 },
    ...option,
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return { name, title, svg }
}
