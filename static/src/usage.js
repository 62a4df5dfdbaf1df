/** The page of one's own usage. */
import { drawCharts } from "./charts/charts.js";

drawCharts();
