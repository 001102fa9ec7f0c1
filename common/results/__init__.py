"""From runs to tables with claims, Markdown pages and the HTML report."""
