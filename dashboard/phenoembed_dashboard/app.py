"""The script that Streamlit runs for every visitor: the sidebar, then one page."""

import streamlit as st

from phenoembed_dashboard.favicon import icon
from phenoembed_dashboard.markup import STYLE
from phenoembed_dashboard.navigation import PAGES, page_of
from phenoembed_dashboard.opened import choose_encoder, guarded, say_simulated, store_address, the_store

st.set_page_config(page_title="phenoembed", page_icon=icon(), layout="wide")
st.html(STYLE)
page = st.navigation([page_of(name) for name in PAGES])
opened = False
with guarded():
    the_store()
    choose_encoder()
    opened = True
st.sidebar.caption(f"Store: `{store_address()}`")
if opened:
    say_simulated()
    page.run()
